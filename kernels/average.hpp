#pragma once
// An exponential moving average of parameters: average += rate * (value - average), with one
// rounding after the difference (fused) on every processor. Spans of equal length.

#include <span>

#include "kernels/blocks.hpp"
#include "kernels/stream.hpp"

namespace hadal::kernels {

void move_average(std::span<float> average, std::span<const float> value, float rate);

// Exchanges the parameters of all blocks of a table with their average. Device memory. (The update
// moves the average itself: kernels/update_memory.hpp.)
void swap_average(Stream stream, BlockTable table, float* param, float* average);

}  // namespace hadal::kernels
