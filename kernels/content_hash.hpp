#pragma once
// A hash of values in device memory that needs no order: two copies of the arena that differ in one
// bit have different hashes, wherever they are taken.

#include <cstdint>
#include <span>

#include "kernels/stream.hpp"

namespace hadal::kernels {

// hash ^= the exclusive or of a mix (the finaliser of MurmurHash3, by A. Appleby, public domain) of
// every value's bits with its place. `hash` is device memory.
void content_hash(Stream stream, std::span<const float> values, std::uint64_t* hash);

}  // namespace hadal::kernels
