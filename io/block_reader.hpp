#pragma once
// Stored rows of one field through a bounded cache of blocks. A block is a chunk's rows, so that a
// compressed chunk is inflated once while it stays in memory; memory limits and the cache never
// change what is read, only how often. This is the interface behind which a faster path can read
// extents.

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "io/data_index.hpp"

namespace hadal::io {

class BlockReader {
 public:
  // `memory_bytes` bounds the cached blocks (at least one block is always held).
  BlockReader(const FieldIndex& field, std::int64_t memory_bytes);

  // The stored bytes of one sample, in this machine's byte order; valid until the next call.
  // Throws a data error that names file, dataset and rows.
  std::span<const std::byte> sample(std::int64_t id);

  // Bytes read through the library so far.
  std::int64_t bytes_read() const { return bytes_read_; }

 private:
  struct Block {
    std::uint64_t key;
    std::vector<std::byte> bytes;
  };
  struct OpenFile {
    Hdf5File file;
    std::uint64_t used;
  };

  const Hdf5File& file_of(std::size_t part);
  const std::vector<std::byte>& block(std::size_t part, std::int64_t number, std::int64_t rows);

  const FieldIndex& field_;
  std::int64_t memory_bytes_;
  std::int64_t cached_bytes_ = 0;
  std::int64_t bytes_read_ = 0;
  std::uint64_t clock_ = 0;
  std::list<Block> blocks_;  // most recently used first
  std::unordered_map<std::uint64_t, std::list<Block>::iterator> by_key_;
  std::map<std::size_t, OpenFile> open_;
};

}  // namespace hadal::io
