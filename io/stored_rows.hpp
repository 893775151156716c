#pragma once
// Rows of a dataset, read past the library: first all raw reads that they need, so that the reads
// of many can be handed to the kernel together, then decoding.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5_file.hpp"
#include "io/open_files.hpp"
#include "io/raw_reader.hpp"
#include "io/recycled_bytes.hpp"

namespace hadal::io {

class StoredRows {
 public:
  // Rows [first, first + count) of `stored`, which the library need not read (see Extents), into
  // `out` in C order: count * row_bytes. `file` holds the bytes. All must outlive this.
  StoredRows(const StoredDataset& stored, const RawFile& file, std::int64_t first,
             std::int64_t count, std::span<std::byte> out);

  // Bytes of memory that the raw data take besides `out`.
  std::int64_t raw_bytes() const { return raw_bytes_; }
  // Adds the reads; `raw` has raw_bytes() bytes, and lives until finish().
  void add_reads(std::span<std::byte> raw, std::vector<RawRead>& reads);
  // When all reads are done: decodes, into this machine's byte order. Throws a data error that
  // names the rows of a damaged chunk.
  void finish();

 private:
  struct Piece {
    const Extent* extent;
    std::vector<std::int64_t> start;  // of the chunk in the dataset
    std::span<const std::byte> raw;
  };

  std::int64_t row_bytes() const { return width_ * stored_.stored_element_bytes(); }
  void decode(const Piece& piece);
  bool reads_in_place(const Piece& piece) const;
  void copy_part(const Piece& piece, std::span<const std::byte> chunk);

  const StoredDataset& stored_;
  const RawFile& file_;
  std::int64_t first_;
  std::int64_t count_;
  std::span<std::byte> out_;
  RecycledBytes records_;        // where `out` takes a column of them
  std::span<std::byte> target_;  // of what is stored: those, or `out`
  std::int64_t width_ = 1;       // elements of a row as stored
  std::int64_t chunk_bytes_ = 0;
  std::int64_t raw_bytes_ = 0;
  bool fills_rows_ = false;  // a chunk is as wide as the rows
  std::vector<Piece> pieces_;
};

}  // namespace hadal::io
