#include "launch/number_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "io/error.hpp"

namespace hadal::launch {

std::vector<std::int64_t> number_list(const std::string& text, const std::string& option) {
  std::vector<std::int64_t> list;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    std::int64_t value = 0;
    const auto parsed = std::from_chars(item.data(), item.data() + item.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != item.data() + item.size() || value < 1) {
      throw io::Error(
          io::ErrorKind::usage,
          fmt::format("{} {}: write whole numbers from 1 with commas, 1,8,8", option, text));
    }
    list.push_back(value);
  }
  return list;
}

}  // namespace hadal::launch
