#pragma once
// Bytes of variable length. A dataset of them holds references; the bytes lie in the file's global
// heaps (HDF5 file format specification 3.0, section III.E), which are read here past the library.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/recycled_bytes.hpp"

namespace hadal::io {

// As a dataset stores it, in files whose addresses have 8 bytes.
inline constexpr std::int64_t kHeapReferenceBytes = 16;

struct HeapReference {
  std::span<const std::byte> stored;  // kHeapReferenceBytes
  int fd = -1;                        // of the file
  const std::string* path = nullptr;  // for messages
  std::int64_t base = 0;              // where the file's addresses begin
};

// The objects' bytes, in `memory`, in the order of the references; none where nothing was ever
// written. All are read together. Throws a data error for a reference that leads nowhere.
std::vector<std::span<const std::byte>> read_heap_objects(std::span<const HeapReference> references,
                                                          RecycledBytes& memory);

}  // namespace hadal::io
