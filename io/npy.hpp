#pragma once
// Arrays in numpy's .npy format, read row by row (format versions 1 to 3, numpy.lib.format).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "io/atomic_file.hpp"
#include "io/dtype.hpp"

namespace hadal::io {

class NpyFile {
 public:
  // Throws a data error: no .npy file, Fortran order, a type that is not a plain little-endian
  // number, or fewer bytes than the shape needs.
  explicit NpyFile(const std::filesystem::path& path);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t rows() const { return shape_.front(); }
  std::int64_t row_bytes() const;

  // Row `row` in C order into `out` (row_bytes).
  void read_row(std::int64_t row, std::span<std::byte> out) const;

 private:
  std::filesystem::path path_;
  UniqueFd fd_;
  DType dtype_ = DType::f32;
  Shape shape_;
  std::int64_t data_begin_ = 0;
};

}  // namespace hadal::io
