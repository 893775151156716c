#include "launch/job/shell.hpp"

#include <algorithm>
#include <cctype>

namespace hadal::launch {

std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string("-_./:=,@%+").find(static_cast<char>(c)) != std::string::npos;
  });
  if (plain) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

std::string shell_words(const std::vector<std::string>& texts) {
  std::string words;
  for (const std::string& text : texts)
    words.append(words.empty() ? "" : " ").append(shell_word(text));
  return words;
}

}  // namespace hadal::launch
