#pragma once
// Words of a shell script.

#include <string>
#include <vector>

namespace hadal::launch {

// One word that a POSIX shell takes for exactly this text.
std::string shell_word(const std::string& text);

// Several of them, with spaces between.
std::string shell_words(const std::vector<std::string>& texts);

}  // namespace hadal::launch
