#pragma once
// Values that were stored as planes, put together again: all first bytes, then all second bytes, …
// (the shuffle filter of HDF5), or all first bits, then all second bits, … (bitshuffle). Both make
// numbers compress better.

#include <cstddef>
#include <span>

namespace hadal::kernels {

// values[i * size + j] = planes[j * n + i] for n whole values of `size` bytes; bytes behind the
// last whole value are copied. Equal sizes; distinct memory.
void join_byte_planes(std::span<std::byte> values, std::span<const std::byte> planes,
                      std::size_t size);

// Bit b (from the lowest) of byte j of value i is bit i % 8 of planes[(8 j + b) * n / 8 + i / 8],
// for n values of `size` bytes, n a multiple of 8 (Masui et al. 2015, "A compression scheme for
// radio data in high performance computing", section 2.3). Equal sizes; distinct memory.
void join_bit_planes(std::span<std::byte> values, std::span<const std::byte> planes,
                     std::size_t size);

}  // namespace hadal::kernels
