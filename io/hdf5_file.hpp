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
  std::int64_t series = -1;            // one of them, of a dataset [series, rows, …]; -1: is none
  // Rows are references to bytes of variable length (see HeapReference), of files whose addresses
  // begin at `heap_base`.
  bool is_heap = false;
  std::int64_t heap_base = 0;

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
  // writer. `fd`, if not -1, is the file, open.
  explicit Hdf5File(const std::filesystem::path& path, int fd = -1);
  ~Hdf5File();
  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;

  enum class Rows { are_samples, are_one_sample };

  // Type, shape and layout of a dataset; where all of it is one sample, with an axis of one row
  // before its own. Throws a data error where it is missing (naming the nearest), has no rows axis,
  // a type that is not a number, or content that is not all there.
  StoredDataset describe(const std::string& dataset, Rows rows = Rows::are_samples) const;

  // The attribute of each of these objects as a row. Throws a data error where one is missing, no
  // number, or of another type or shape than the first one's.
  StoredDataset describe_attribute(const std::vector<std::string>& objects,
                                   const std::string& attribute) const;

  // Paths of the groups and datasets that match, `*` standing for (a part of) one name; in the
  // order of their names, numbers inside them by their value.
  std::vector<std::string> matching(const std::string& pattern) const;

  // Rows [first, first + count) in C order and native byte order into `out` (count * row_bytes).
  void read_rows(const StoredDataset& stored, std::int64_t first, std::int64_t count,
                 std::span<std::byte> out) const;

  // The bytes of variable length that a row of such a dataset stands for.
  std::vector<std::byte> read_bytes(const StoredDataset& stored, std::int64_t row) const;

  // Whether the library has all filters of a dataset.
  bool can_decode(const StoredDataset& stored) const;

  // Paths of all datasets, sorted.
  const std::vector<std::string>& datasets() const;

  // A text beside the datasets; empty: there is none of this name.
  std::string attribute(const std::string& name) const;

  // A line on type and shape of any dataset, for people; never throws for odd ones.
  std::string summary(const std::string& dataset) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::io
