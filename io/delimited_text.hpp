#pragma once
// Tables of numbers as text (CSV, TSV), plain or gzip-compressed, read line by line.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::io {

class DelimitedText {
 public:
  // Opens the file (gzip is recognised by content). A first line with a field that is no number is
  // the header. Throws a data error.
  DelimitedText(const std::filesystem::path& path, char delimiter);
  ~DelimitedText();
  DelimitedText(DelimitedText&&) noexcept;
  DelimitedText& operator=(DelimitedText&&) noexcept;

  // Names of the columns, or "0", "1", … without a header.
  const std::vector<std::string>& columns() const;

  // Fields of the next line that is not empty; false at the end. The views are valid until the next
  // call. Throws a data error for a line with another number of fields, or a damaged file.
  bool next(std::vector<std::string_view>& fields);

  // "file:line" of the last line.
  std::string where() const;

  // Back to the first line after the header.
  void rewind();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::io
