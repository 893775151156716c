#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/resample.hpp"
#include "kernels/resample_code.hpp"

namespace hadal::kernels {
namespace {

// The taps of all pixels along one axis.
struct Line {
  std::vector<std::size_t> first;
  std::vector<float> weights;  // `width` a pixel
  std::size_t width = 0;
};

void set_line(Line& line, std::size_t in, std::size_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  line.width = std::min(in, static_cast<std::size_t>(2 * std::max(1.0, scale) + 2));
  line.first.resize(out);
  line.weights.assign(out * line.width, 0.0f);
  for (std::size_t i = 0; i < out; ++i) {
    const Taps taps = taps_of(static_cast<std::int64_t>(i), static_cast<std::int64_t>(in),
                              static_cast<std::int64_t>(out));
    float* const weights = line.weights.data() + i * line.width;
    for (std::int64_t j = taps.begin; j < taps.end; ++j) weights[j - taps.begin] = taps.weight(j);
    line.first[i] = static_cast<std::size_t>(taps.begin);
  }
}

}  // namespace

void resample(std::span<float> out, std::size_t width, std::span<const float> plane,
              const Window& window) {
  const std::size_t height = out.size() / width;
  assert((window.top + window.height - 1) * window.stride + window.left + window.width <=
         plane.size());
  thread_local Line across, down;
  thread_local std::vector<float> narrow;  // the window's rows, in their new width
  set_line(across, window.width, width);
  set_line(down, window.height, height);
  narrow.resize(window.height * width);
  for (std::size_t y = 0; y < window.height; ++y) {
    const float* const from = plane.data() + (window.top + y) * window.stride + window.left;
    for (std::size_t x = 0; x < width; ++x) {
      const float* const weights = across.weights.data() + x * across.width;
      const std::size_t first = across.first[x];
      const std::size_t taps = std::min(across.width, window.width - first);
      float sum = 0;
      for (std::size_t j = 0; j < taps; ++j) sum += weights[j] * from[first + j];
      narrow[y * width + x] = sum;
    }
  }
  for (std::size_t y = 0; y < height; ++y) {
    float* const to = out.data() + y * width;
    std::fill_n(to, width, 0.0f);
    const std::size_t first = down.first[y];
    const std::size_t taps = std::min(down.width, window.height - first);
    for (std::size_t j = 0; j < taps; ++j) {
      const float weight = down.weights[y * down.width + j];
      const float* const from = narrow.data() + (first + j) * width;
      for (std::size_t x = 0; x < width; ++x) to[x] += weight * from[x];
    }
  }
}

}  // namespace hadal::kernels
