#pragma once
// Moves of a sample's values, from one memory to another. Shapes have the four axes of box.hpp.

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "io/box.hpp"
#include "io/dtype.hpp"
#include "kernels/resample.hpp"

namespace hadal::io {

// What of the box lies outside is `beyond`, by channel.
template <class T>
void cut(std::span<const T> in, const Shape& from, std::span<T> out, const Box& box,
         std::span<const T> beyond) {
  const auto& [first, size] = box;
  // What of a line lies inside.
  const std::int64_t left = std::clamp<std::int64_t>(-first[3], 0, size[3]);
  const std::int64_t right = std::clamp<std::int64_t>(from[3] - first[3], left, size[3]);
  T* to = out.data();
  for (std::int64_t c = 0; c < size[0]; ++c) {
    const T fill = beyond[static_cast<std::size_t>(c)];
    for (std::int64_t d = 0; d < size[1]; ++d) {
      for (std::int64_t h = 0; h < size[2]; ++h, to += size[3]) {
        const std::int64_t depth = first[1] + d, height = first[2] + h;
        const bool inside = depth >= 0 && depth < from[1] && height >= 0 && height < from[2];
        if (!inside) {
          std::fill_n(to, size[3], fill);
          continue;
        }
        const T* const line = in.data() + ((c * from[1] + depth) * from[2] + height) * from[3];
        std::fill_n(to, left, fill);
        std::copy(line + first[3] + left, line + first[3] + right, to + left);
        std::fill(to + right, to + size[3], fill);
      }
    }
  }
}

template <class T>
void flip(std::span<const T> in, const Shape& shape, std::span<T> out,
          const std::array<bool, kAxes>& turned) {
  T* to = out.data();
  for (std::int64_t c = 0; c < shape[0]; ++c) {
    for (std::int64_t d = 0; d < shape[1]; ++d) {
      for (std::int64_t h = 0; h < shape[2]; ++h, to += shape[3]) {
        const std::int64_t depth = turned[1] ? shape[1] - 1 - d : d;
        const std::int64_t height = turned[2] ? shape[2] - 1 - h : h;
        const T* const line = in.data() + ((c * shape[1] + depth) * shape[2] + height) * shape[3];
        if (turned[3]) {
          std::reverse_copy(line, line + shape[3], to);
        } else {
          std::copy_n(line, shape[3], to);
        }
      }
    }
  }
}

// Counter-clockwise by `quarters` right angles, as numpy.rot90 over (height, width).
template <class T>
void rotate(std::span<const T> in, const Shape& shape, std::span<T> out, std::int64_t quarters) {
  const std::int64_t planes = shape[0] * shape[1], height = shape[2], width = shape[3];
  for (std::int64_t p = 0; p < planes; ++p) {
    const T* const from = in.data() + p * height * width;
    T* to = out.data() + p * height * width;
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const std::int64_t at = quarters == 0   ? y * width + x
                                : quarters == 1 ? x * width + (width - 1 - y)
                                : quarters == 2 ? (height - 1 - y) * width + (width - 1 - x)
                                                : (height - 1 - x) * width + y;
        *to++ = from[at];
      }
    }
  }
}

// A float's window is filtered, a label's nearest place is taken.
inline void resize(std::span<const float> in, const Shape& from, std::span<float> out,
                   const Shape& to, const Box& box) {
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::size_t plane = size(from[2] * from[3]), made = size(to[2] * to[3]);
  for (std::size_t p = 0; p < size(from[0] * from[1]); ++p) {
    kernels::resample(out.subspan(p * made, made), size(to[3]), in.subspan(p * plane, plane),
                      {.top = size(box.first[2]),
                       .left = size(box.first[3]),
                       .height = size(box.size[2]),
                       .width = size(box.size[3]),
                       .stride = size(from[3])});
  }
}

inline void resize(std::span<const std::int64_t> in, const Shape& from, std::span<std::int64_t> out,
                   const Shape& to, const Box& box) {
  std::int64_t* place = out.data();
  for (std::int64_t p = 0; p < from[0] * from[1]; ++p) {
    for (std::int64_t y = 0; y < to[2]; ++y) {
      const std::int64_t row = box.first[2] + (2 * y + 1) * box.size[2] / (2 * to[2]);
      for (std::int64_t x = 0; x < to[3]; ++x) {
        const std::int64_t column = box.first[3] + (2 * x + 1) * box.size[3] / (2 * to[3]);
        *place++ = in[static_cast<std::size_t>((p * from[2] + row) * from[3] + column)];
      }
    }
  }
}

}  // namespace hadal::io
