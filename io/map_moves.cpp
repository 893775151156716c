#include "io/map_moves.hpp"

#include <algorithm>
#include <utility>

namespace hadal::io {
namespace {

void flip_axis(kernels::PixelMap& map, std::size_t axis, std::int64_t extent) {
  map.first += map.step[axis] * (extent - 1);
  map.step[axis] = -map.step[axis];
  const auto size = static_cast<std::int32_t>(extent);
  const std::int32_t begin = size - map.end[axis];
  map.end[axis] = size - map.begin[axis];
  map.begin[axis] = begin;
}

}  // namespace

kernels::PixelMap whole_map(const Shape& four, bool channels_last) {
  kernels::PixelMap map;
  std::int64_t step = channels_last ? four[0] : 1;
  for (std::size_t a = 3; a-- > 0;) {
    map.step[a] = step;
    map.end[a] = static_cast<std::int32_t>(four[a + 1]);
    step *= four[a + 1];
  }
  return map;
}

void cut(kernels::PixelMap& map, const Box& box) {
  for (std::size_t a = 0; a < 3; ++a) {
    const auto first = static_cast<std::int32_t>(box.first[a + 1]);
    map.first += box.first[a + 1] * map.step[a];
    map.begin[a] = std::max(0, map.begin[a] - first);
    map.end[a] = std::min(static_cast<std::int32_t>(box.size[a + 1]), map.end[a] - first);
  }
}

void flip(kernels::PixelMap& map, const Shape& shape, const std::array<bool, kAxes>& turned) {
  for (std::size_t axis = 1; axis < kAxes; ++axis) {
    if (turned[axis]) flip_axis(map, axis - 1, shape[axis]);
  }
}

// (y, x) is (x, width - 1 - y) of before for one quarter: the width flipped, then both exchanged.
void rotate(kernels::PixelMap& map, const Shape& shape, std::int64_t quarters) {
  if (quarters == 1) flip_axis(map, 2, shape[3]);
  if (quarters == 2) {
    flip_axis(map, 1, shape[2]);
    flip_axis(map, 2, shape[3]);
  }
  if (quarters == 3) flip_axis(map, 1, shape[2]);
  if (quarters % 2 == 0) return;
  std::swap(map.step[1], map.step[2]);
  std::swap(map.begin[1], map.begin[2]);
  std::swap(map.end[1], map.end[2]);
}

}  // namespace hadal::io
