#pragma once
// An exponential moving average of parameters: average += rate * (value - average), with one
// rounding after the difference (fused) on every processor. Spans of equal length.

#include <span>

namespace hadal::kernels {

void move_average(std::span<float> average, std::span<const float> value, float rate);

}  // namespace hadal::kernels
