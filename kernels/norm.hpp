#pragma once
// Norms that do not depend on how the arena is split. A parameter is cut into blocks of kNormBlock
// elements from its own start; a block's sum of squares is taken in float64 over 32 fixed lanes,
// and blocks are joined in their order by whoever needs the total. A block is never shared by two
// owners.

#include <cstdint>
#include <span>

#include "kernels/blocks.hpp"
#include "kernels/stream.hpp"

namespace hadal::kernels {

inline constexpr std::int64_t kNormBlock = 4096;

// Sum of x[i]^2 in float64 over one block (any length up to kNormBlock): lane i mod 32 accumulates
// element i, lanes are joined pairwise. Not finite exactly where a value of the block is not finite
// (float32 squares cannot overflow float64).
double sum_of_squares(std::span<const float> block);

// sums[stride * b] = sum_of_squares() of block b of `values`, with its bits. Device memory.
void sums_of_squares(Stream stream, BlockTable table, const float* values, double* sums,
                     int stride);

}  // namespace hadal::kernels
