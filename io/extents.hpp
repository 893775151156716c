#pragma once
// Where a dataset's rows lie in its file, found once by the library, so that any thread can read
// them without it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
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

struct Extents {
  enum class Storage { contiguous, chunked, memory, library };
  Storage storage = Storage::library;
  std::string reason;  // why the library must read it
  bool past_library() const { return storage != Storage::library; }
  std::string file;  // that holds the bytes, where it is another one (external links)

  std::int64_t offset = 0;  // contiguous: of the first row

  Shape chunk;  // chunked: its extents, at the dataset's edges too
  std::vector<ChunkFilter> filters;
  std::shared_ptr<const std::vector<Extent>> chunks;  // in the order of the grid, last axis fastest

  // memory: all rows, in this machine's byte order; of what is small and scattered over a file.
  std::shared_ptr<const std::vector<std::byte>> values;
};

}  // namespace hadal::io
