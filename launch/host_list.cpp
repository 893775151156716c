#include "launch/host_list.hpp"

#include <fmt/format.h>

#include <charconv>

#include "io/error.hpp"

namespace hadal::launch {
namespace {

// No cluster has more; a list that says so is damaged.
constexpr std::size_t kMostHosts = 1'000'000;

class Parser {
 public:
  explicit Parser(const std::string& list) : list_(list) {}

  std::vector<std::string> all() {
    std::vector<std::string> hosts;
    for (;;) {
      const std::vector<std::string> more = item();
      hosts.insert(hosts.end(), more.begin(), more.end());
      if (at_ == list_.size()) return hosts;
      expect(',');
    }
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("\"{}\" is no list of hosts: {} at column {}", list_, why, at_ + 1));
  }

  char here() const { return at_ < list_.size() ? list_[at_] : '\0'; }

  void expect(char c) {
    if (here() != c) fail(fmt::format("'{}' is missing", c));
    ++at_;
  }

  // Words and brackets up to the next comma: "r[1-2]n[01-02]" is four names.
  std::vector<std::string> item() {
    std::vector<std::string> names{""};
    const std::size_t begin = at_;
    while (at_ < list_.size() && here() != ',') {
      std::vector<std::string> parts;
      if (here() == '[') {
        parts = brackets();
      } else if (here() == ']' || here() == ' ') {
        fail(fmt::format("'{}' has no place", here()));
      } else {
        const std::size_t end = std::min(list_.find_first_of("[], ", at_), list_.size());
        parts.push_back(list_.substr(at_, end - at_));
        at_ = end;
      }
      names = product(names, parts);
    }
    if (at_ == begin) fail("a name is missing");
    return names;
  }

  std::vector<std::string> brackets() {
    expect('[');
    std::vector<std::string> numbers;
    for (;;) {
      range(numbers);
      if (here() == ']') break;
      expect(',');
    }
    ++at_;
    return numbers;
  }

  void range(std::vector<std::string>& numbers) {
    const std::string first = digits();
    std::string last = first;
    if (here() == '-') {
      ++at_;
      last = digits();
    }
    const std::uint64_t from = value(first), to = value(last);
    if (to < from) fail("the range runs backwards");
    if (to - from >= kMostHosts - std::min(kMostHosts, numbers.size())) fail("too many hosts");
    for (std::uint64_t number = from; number <= to; ++number) {
      numbers.push_back(fmt::format("{:0{}}", number, first.size()));
    }
  }

  std::string digits() {
    const std::size_t end = std::min(list_.find_first_not_of("0123456789", at_), list_.size());
    if (end == at_) fail("a number is missing");
    const std::string text = list_.substr(at_, end - at_);
    at_ = end;
    return text;
  }

  std::uint64_t value(const std::string& text) const {
    std::uint64_t number = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec != std::errc{}) {
      fail("the number is too large");
    }
    return number;
  }

  std::vector<std::string> product(const std::vector<std::string>& names,
                                   const std::vector<std::string>& parts) const {
    if (names.size() * parts.size() > kMostHosts) fail("too many hosts");
    std::vector<std::string> longer;
    for (const std::string& name : names) {
      for (const std::string& part : parts) longer.push_back(name + part);
    }
    return longer;
  }

  const std::string& list_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<std::string> expand_host_list(const std::string& list) { return Parser(list).all(); }

}  // namespace hadal::launch
