#pragma once
// Chunks of HDF5's Blosc2 filter, where its library was there at build time. A source of its own:
// its header and that of Blosc 1 define the same names.

#include <cstddef>
#include <span>

namespace hadal::io {

bool has_blosc2();

// A contiguous frame with a super-chunk of one chunk, or with a B2ND array, as the filter writes
// them, into `out` of the decoded size. False where the bytes are damaged. Any thread.
bool unpack_blosc2(std::span<const std::byte> in, std::span<std::byte> out);

}  // namespace hadal::io
