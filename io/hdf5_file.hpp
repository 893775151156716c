#pragma once
// One HDF5 file opened for reading, never locked (shared file systems without locks refuse it),
// never written. Everything that could turn into a plausible wrong number is refused when a dataset
// is described: parts never written, virtual sources that are gone, filters that are not installed.
// Calls are serialised inside: the library is not safe in every build.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.hpp"
#include "io/extents.hpp"

namespace hadal::io {

// Rows of another dataset that a virtual one shows as its own.
struct VirtualSource {
  std::filesystem::path file;
  std::string dataset;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  bool is_one_row = false;  // all of it is one row
};

struct StoredDataset {
  std::string path;     // as asked for: "/dataset", or "/dataset:column" of a compound
  std::string dataset;  // and its parts
  std::string column;
  DType dtype = DType::f32;
  bool big_endian = false;
  Shape shape;  // [rows, …]
  // Of a column: the first axes of the shape count records of so many bytes, the others lie inside
  // one, at this offset.
  std::int64_t record_bytes = 0;
  std::int64_t record_offset = 0;
  std::size_t record_axes = 0;
  std::int64_t chunk_rows = 0;  // rows a chunk covers; 0 where the dataset is not chunked
  std::vector<std::string> filters;
  std::int64_t stored_bytes = 0;
  Extents extents;
  std::vector<VirtualSource> sources;  // of a virtual dataset, in the order of its rows

  std::int64_t rows() const { return shape.front(); }
  Shape sample_shape() const { return {shape.begin() + 1, shape.end()}; }
  std::int64_t row_bytes() const;
  // What a chunk's extents count: axes, and bytes of an element.
  std::size_t stored_axes() const { return record_bytes > 0 ? record_axes : shape.size(); }
  std::int64_t stored_element_bytes() const {
    return record_bytes > 0 ? record_bytes : size_bytes(dtype);
  }
};

class Hdf5File {
 public:
  // Throws a data error: no such file, no HDF5 file, cut off (with both sizes), left open by a
  // writer.
  explicit Hdf5File(const std::filesystem::path& path);
  ~Hdf5File();
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;

  // Type, shape and layout of a dataset. Throws a data error where it is missing (naming the
  // nearest), has no rows axis, a type that is not a number, or content that is not all there.
  StoredDataset describe(const std::string& dataset) const;

  // Rows [first, first + count) in C order and native byte order into `out` (count * row_bytes).
  void read_rows(const StoredDataset& stored, std::int64_t first, std::int64_t count,
                 std::span<std::byte> out) const;

  // Whether the library has all filters of a dataset.
  bool can_decode(const StoredDataset& stored) const;

  // Paths of all datasets, sorted.
  std::vector<std::string> datasets() const;

  // A line on type and shape of any dataset, for people; never throws for odd ones.
  std::string summary(const std::string& dataset) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::io
