#include "io/npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <regex>
#include <string>

#include "io/error.hpp"

namespace hadal::io {
namespace {

const std::map<std::string, DType>& types() {
  static const std::map<std::string, DType> table = {
      {"|b1", DType::boolean}, {"|u1", DType::u8},  {"|i1", DType::i8},  {"<u2", DType::u16},
      {"<i2", DType::i16},     {"<u4", DType::u32}, {"<i4", DType::i32}, {"<u8", DType::u64},
      {"<i8", DType::i64},     {"<f2", DType::f16}, {"<f4", DType::f32}, {"<f8", DType::f64}};
  return table;
}

}  // namespace

NpyFile::NpyFile(const std::filesystem::path& path) : path_(path) {
  if (!std::filesystem::exists(path)) {
    throw Error(ErrorKind::data, fmt::format("{} does not exist", path.string()));
  }
  fd_ = open_for_reading(path);
  parse(static_cast<std::int64_t>(std::filesystem::file_size(path)));
}

NpyFile::NpyFile(std::vector<std::byte> bytes, const std::string& name)
    : path_(name), bytes_(std::move(bytes)) {
  parse(std::ssize(bytes_));
}

void NpyFile::read(std::int64_t offset, std::span<std::byte> out) const {
  if (fd_) {
    read_at(fd_.get(), out, offset, path_);
  } else {
    std::copy_n(bytes_.begin() + offset, out.size(), out.begin());
  }
}

void NpyFile::parse(std::int64_t file_bytes) {
  const auto fail = [&](const std::string& why) {
    return Error(ErrorKind::data, fmt::format("{} {}", path_.string(), why));
  };
  unsigned char start[12] = {};
  if (file_bytes < 12) throw fail("is not a .npy file: it is too short");
  read(0, std::as_writable_bytes(std::span(start)));
  if (std::memcmp(start, "\x93NUMPY", 6) != 0) throw fail("is not a .npy file");
  const bool wide = start[6] >= 2;
  const std::int64_t length = wide ? start[8] | (start[9] << 8) | (start[10] << 16) |
                                         (static_cast<std::int64_t>(start[11]) << 24)
                                   : start[8] | (start[9] << 8);
  data_begin_ = (wide ? 12 : 10) + length;
  if (data_begin_ > file_bytes || length > (1 << 20)) throw fail("has a header that is cut off");
  std::string header(static_cast<std::size_t>(length), '\0');
  read(wide ? 12 : 10, std::as_writable_bytes(std::span(header)));
  std::smatch match;
  if (!std::regex_search(header, match, std::regex("'descr': *'([^']*)'"))) {
    throw fail("holds records or objects; only plain numbers can be read");
  }
  const auto type = types().find(match[1]);
  if (type == types().end()) {
    throw fail(fmt::format("has the type {}, which cannot be read; save it with astype('float32')",
                           match[1].str()));
  }
  dtype_ = type->second;
  if (header.find("'fortran_order': True") != std::string::npos) {
    throw fail("is in Fortran order; save it with numpy.ascontiguousarray");
  }
  if (!std::regex_search(header, match, std::regex("'shape': *\\(([^)]*)\\)"))) {
    throw fail("has no shape in its header");
  }
  const std::string extents = match[1];
  const std::regex number("[0-9]{1,18}");
  std::int64_t bytes = size_bytes(dtype_);
  for (auto it = std::sregex_iterator(extents.begin(), extents.end(), number);
       it != std::sregex_iterator(); ++it) {
    shape_.push_back(std::stoll(it->str()));
    if (__builtin_mul_overflow(bytes, shape_.back(), &bytes)) throw fail("has an impossible shape");
  }
  if (shape_.empty()) throw fail("is a single value; one row per sample is needed");
  if (file_bytes - data_begin_ < bytes) {
    throw fail(fmt::format("is cut off: its shape {} needs {} bytes, {} are there",
                           to_string(shape_), bytes, file_bytes - data_begin_));
  }
}

std::int64_t NpyFile::row_bytes() const {
  return size_bytes(dtype_) * element_count({shape_.begin() + 1, shape_.end()});
}

void NpyFile::read_row(std::int64_t row, std::span<std::byte> out) const {
  read(data_begin_ + row * row_bytes(), out);
}

}  // namespace hadal::io
