#pragma once
// Writes one HDF5 shard of datasets with one row per sample, from front to back: contiguous, or in
// chunks of rows, filtered here and not by the library, in threads' time that nobody else waits
// for. The file gets its name when it is complete.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::io {

struct ShardField {
  std::string path;  // dataset
  DType dtype = DType::f32;
  Shape sample_shape;

  std::int64_t row_bytes() const { return size_bytes(dtype) * element_count(sample_shape); }
};

enum class ShardFilter { none, gzip, lz4, zstd };

struct ShardLayout {
  // Values of more than a byte are split into planes of bytes first (the shuffle filter).
  ShardFilter filter = ShardFilter::none;
  std::int64_t chunk_rows = 0;  // 0: contiguous, or with a filter what makes chunks of 256 KiB
};

class Hdf5ShardWriter {
 public:
  // Creates `path` + ".tmp" for exactly `rows` rows. Throws a storage error.
  Hdf5ShardWriter(const std::filesystem::path& path, std::vector<ShardField> fields,
                  std::int64_t rows, const ShardLayout& layout = {});
  ~Hdf5ShardWriter();
  Hdf5ShardWriter(Hdf5ShardWriter&&) noexcept;
  Hdf5ShardWriter& operator=(Hdf5ShardWriter&&) noexcept;

  // One sample: a span of row_bytes per field.
  void append(const std::vector<std::span<const std::byte>>& row);

  // A text beside the datasets.
  void set_attribute(const std::string& name, const std::string& text);

  // Flushes, syncs and renames. Every row must have been written.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::io
