#pragma once
// Where a dataset's rows lie in its file, found once by the library, so that any thread can read
// them without it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/chunk_filters.hpp"
#include "io/dtype.hpp"

namespace hadal::io {

// The stored bytes of one chunk.
struct Extent {
  std::int64_t offset = 0;  // from the start of the file
  std::uint32_t bytes = 0;
  std::uint32_t mask = 0;  // bit i: filter i was left out
};

// Chunks in the order of the grid, last axis fastest. Copies and parts of it share one memory.
struct ChunkTable {
  std::shared_ptr<const Extent> chunks;  // the first; keeps alive what holds them
  std::size_t count = 0;

  ChunkTable() = default;
  explicit ChunkTable(std::vector<Extent> made) : count(made.size()) {
    const auto owner = std::make_shared<const std::vector<Extent>>(std::move(made));
    chunks = {owner, owner->data()};
  }
  ChunkTable part(std::size_t first, std::size_t size) const {
    ChunkTable cut;
    cut.chunks = {chunks, chunks.get() + first};
    cut.count = size;
    return cut;
  }
  std::span<const Extent> all() const { return {chunks.get(), count}; }
  const Extent& operator[](std::size_t i) const { return chunks.get()[i]; }
};

struct Extents {
  enum class Storage { contiguous, chunked, memory, library };
  Storage storage = Storage::library;
  std::string reason;  // why the library must read it
  bool past_library() const { return storage != Storage::library; }
  std::string file;  // that holds the bytes, where it is another one (external links)

  std::int64_t offset = 0;  // contiguous: of the first row

  Shape chunk;  // chunked: its extents, at the dataset's edges too
  std::vector<ChunkFilter> filters;
  ChunkTable chunks;
  // Where a chunk holds so many series (see Hdf5File::series), this one is number `place` of them.
  std::int64_t series = 1;
  std::int64_t place = 0;

  // memory: all rows, in this machine's byte order; of what is small and scattered over a file.
  std::shared_ptr<const std::vector<std::byte>> values;
};

}  // namespace hadal::io
