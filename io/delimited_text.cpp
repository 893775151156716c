#include "io/delimited_text.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "io/error.hpp"
#include "io/unique_handle.hpp"

namespace hadal::io {
namespace {

struct GzTraits {
  using Handle = gzFile;
  static constexpr gzFile null() noexcept { return nullptr; }
  static void close(gzFile file) noexcept { gzclose(file); }
};
using UniqueGz = UniqueHandle<GzTraits>;

constexpr unsigned kBufferBytes = 1 << 18;

bool is_number(std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '"')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '"')) text.remove_suffix(1);
  return text;
}

}  // namespace

struct DelimitedText::Impl {
  std::filesystem::path path;
  char delimiter = ',';
  UniqueGz file;
  std::string buffer;
  std::size_t position = 0;
  std::string line;
  std::int64_t line_number = 0;
  std::vector<std::string> columns;
  bool header = false;

  bool refill() {
    buffer.resize(kBufferBytes);
    const int got = gzread(file.get(), buffer.data(), kBufferBytes);
    int code = Z_OK;
    const char* message = gzerror(file.get(), &code);
    if (got < 0 || code == Z_BUF_ERROR) {
      throw Error(ErrorKind::data,
                  fmt::format("{} is damaged after line {}: {}", path.string(), line_number,
                              code == Z_BUF_ERROR ? "it is cut off" : message));
    }
    buffer.resize(static_cast<std::size_t>(got));
    position = 0;
    return got > 0;
  }

  bool read_line() {
    line.clear();
    for (bool any = false;;) {
      if (position >= buffer.size() && !refill()) {
        line_number += any ? 1 : 0;
        return any;
      }
      any = true;
      const std::size_t end = buffer.find('\n', position);
      line.append(buffer, position, end == std::string::npos ? std::string::npos : end - position);
      position = end == std::string::npos ? buffer.size() : end + 1;
      if (end == std::string::npos) continue;
      ++line_number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return true;
    }
  }

  void split(std::vector<std::string_view>& fields) const {
    fields.clear();
    std::string_view rest = line;
    for (;;) {
      const std::size_t end = rest.find(delimiter);
      fields.push_back(trimmed(rest.substr(0, end)));
      if (end == std::string_view::npos) return;
      rest.remove_prefix(end + 1);
    }
  }

  bool next_split(std::vector<std::string_view>& fields) {
    do {
      if (!read_line()) return false;
    } while (line.find_first_not_of(" \t") == std::string::npos);
    split(fields);
    return true;
  }

  void open() {
    file = UniqueGz(gzopen(path.c_str(), "rb"));
    if (!file) throw system_error(ErrorKind::data, "cannot open", path.string(), errno);
    gzbuffer(file.get(), kBufferBytes);
    buffer.clear();
    position = 0;
    line_number = 0;
  }
};

DelimitedText::DelimitedText(const std::filesystem::path& path, char delimiter)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = path;
  impl_->delimiter = delimiter;
  impl_->open();
  std::vector<std::string_view> fields;
  if (!impl_->next_split(fields)) {
    throw Error(ErrorKind::data, fmt::format("{} has no lines", path.string()));
  }
  impl_->header = !std::all_of(fields.begin(), fields.end(), is_number);
  for (std::size_t i = 0; i < fields.size(); ++i) {
    impl_->columns.push_back(impl_->header ? std::string(fields[i]) : std::to_string(i));
  }
  rewind();
}

DelimitedText::~DelimitedText() = default;
DelimitedText::DelimitedText(DelimitedText&&) noexcept = default;
DelimitedText& DelimitedText::operator=(DelimitedText&&) noexcept = default;

const std::vector<std::string>& DelimitedText::columns() const { return impl_->columns; }

std::string DelimitedText::where() const {
  return fmt::format("{}:{}", impl_->path.string(), impl_->line_number);
}

void DelimitedText::rewind() {
  impl_->open();
  std::vector<std::string_view> fields;
  if (impl_->header) impl_->next_split(fields);
}

bool DelimitedText::next(std::vector<std::string_view>& fields) {
  if (!impl_->next_split(fields)) return false;
  if (fields.size() != impl_->columns.size()) {
    throw Error(ErrorKind::data, fmt::format("{} has {} fields, the first line has {}", where(),
                                             fields.size(), impl_->columns.size()));
  }
  return true;
}

}  // namespace hadal::io
