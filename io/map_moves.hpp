#pragma once
// The moves of value_moves.hpp made of a map of pixels, whose values stay where they are. An axis
// of it is one less than of a shape.

#include <array>

#include "io/box.hpp"
#include "io/dtype.hpp"
#include "kernels/images.hpp"

namespace hadal::io {

// All pixels of a sample with these four axes, one channel of it.
kernels::PixelMap whole_map(const Shape& four, bool channels_last);

void cut(kernels::PixelMap& map, const Box& box);
void flip(kernels::PixelMap& map, const Shape& shape, const std::array<bool, kAxes>& turned);
void rotate(kernels::PixelMap& map, const Shape& shape, std::int64_t quarters);

}  // namespace hadal::io
