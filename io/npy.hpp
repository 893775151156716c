#pragma once
// Arrays in numpy's .npy format, read row by row (format versions 1 to 3, numpy.lib.format).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.hpp"
#include "io/dtype.hpp"

namespace hadal::io {

class NpyFile {
 public:
  // Throws a data error: no .npy file, Fortran order, a type that is not a plain little-endian
  // number, or fewer bytes than the shape needs.
  explicit NpyFile(const std::filesystem::path& path);
  // From memory; `name` stands for the path in messages.
  NpyFile(std::vector<std::byte> bytes, const std::string& name);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::string name() const { return path_.string(); }
  std::int64_t rows() const { return shape_.front(); }
  std::int64_t row_bytes() const;

  // Row `row` in C order into `out` (row_bytes).
  void read_row(std::int64_t row, std::span<std::byte> out) const;

 private:
  void parse(std::int64_t size);
  void read(std::int64_t offset, std::span<std::byte> out) const;

  std::filesystem::path path_;
  UniqueFd fd_;  // or
  std::vector<std::byte> bytes_;
  DType dtype_ = DType::f32;
  Shape shape_;
  std::int64_t data_begin_ = 0;
};

}  // namespace hadal::io
