#include <algorithm>
#include <cassert>
#include <vector>

#include "kernels/resample.hpp"

namespace hadal::kernels {
namespace {

// What each output pixel takes of which input pixels, along one axis.
struct Taps {
  std::vector<std::size_t> first;
  std::vector<float> weights;  // `width` a pixel
  std::size_t width = 0;
};

// The triangle of half-width max(1, in / out) around each pixel's centre, cut at the edges and
// brought to a sum of 1.
void set_taps(Taps& taps, std::size_t in, std::size_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double support = std::max(1.0, scale);
  taps.width = std::min(in, static_cast<std::size_t>(2 * support + 2));
  taps.first.resize(out);
  taps.weights.assign(out * taps.width, 0.0f);
  for (std::size_t i = 0; i < out; ++i) {
    const double centre = scale * (static_cast<double>(i) + 0.5);
    const auto begin = static_cast<std::size_t>(std::max(0.0, centre - support + 0.5));
    const std::size_t end = std::min(in, static_cast<std::size_t>(centre + support + 0.5));
    float* const weights = taps.weights.data() + i * taps.width;
    double total = 0;
    for (std::size_t j = begin; j < end; ++j) {
      const double distance = (static_cast<double>(j) + 0.5 - centre) / support;
      total += std::max(0.0, 1 - (distance < 0 ? -distance : distance));
    }
    for (std::size_t j = begin; j < end; ++j) {
      const double distance = (static_cast<double>(j) + 0.5 - centre) / support;
      const double weight = std::max(0.0, 1 - (distance < 0 ? -distance : distance));
      weights[j - begin] = static_cast<float>(weight / total);
    }
    taps.first[i] = begin;
  }
}

}  // namespace

void resample(std::span<float> out, std::size_t width, std::span<const float> plane,
              const Window& window) {
  const std::size_t height = out.size() / width;
  assert((window.top + window.height - 1) * window.stride + window.left + window.width <=
         plane.size());
  thread_local Taps across, down;
  thread_local std::vector<float> narrow;  // the window's rows, in their new width
  set_taps(across, window.width, width);
  set_taps(down, window.height, height);
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
