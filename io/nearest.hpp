#pragma once
// The name that a user most likely meant, for messages.

#include <string>
#include <string_view>
#include <vector>

namespace hadal::io {

// The candidate with the smallest edit distance to `word`, or "" where none is close enough (a
// third of the longer name) to be a slip.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace hadal::io
