#pragma once
// HDF5's chunk filters, undone outside the library and its lock, by any number of threads. Knows
// deflate, shuffle, fletcher32 (verified), szip, lzf, lz4, zstd, bitshuffle and blosc.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hadal::io {

// One filter of a dataset's pipeline, with its parameters as the file has them.
struct ChunkFilter {
  std::int32_t id = 0;
  std::vector<std::uint32_t> values;
  bool operator==(const ChunkFilter&) const = default;
};

// The registered name of a filter, or "filter ID".
std::string filter_name(std::int32_t id);

// The decoders that this build has beside those that every build has: "blosc szip".
std::string optional_decoders();

class ChunkFilters {
 public:
  // `filters` in the order in which they were applied; `chunk_bytes` of a whole decoded chunk.
  ChunkFilters(std::vector<ChunkFilter> filters, std::int64_t chunk_bytes)
      : filters_(std::move(filters)), chunk_bytes_(static_cast<std::size_t>(chunk_bytes)) {}

  // Why these chunks cannot be decoded here, or "".
  std::string reason_not_here() const;

  // Decodes a stored chunk into `out`, of a whole chunk's size; bit i of `mask` says that filter i
  // was left out. Returns what is wrong with the chunk, or "". Any thread.
  std::string decode(std::span<const std::byte> stored, std::uint32_t mask,
                     std::span<std::byte> out) const;

  // Whether a library takes part that may crash on damaged bytes.
  bool may_crash() const;

  bool empty() const { return filters_.empty(); }

 private:
  std::vector<ChunkFilter> filters_;
  std::size_t chunk_bytes_;
};

}  // namespace hadal::io
