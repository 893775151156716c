#pragma once
// A part of an image in another size.

#include <cstddef>
#include <span>

namespace hadal::kernels {

// A rectangle of a plane that is `stride` values wide.
struct Window {
  std::size_t top = 0;
  std::size_t left = 0;
  std::size_t height = 0;
  std::size_t width = 0;
  std::size_t stride = 0;
};

// out [height, width] = the window of `plane`, bilinear, with the filter as wide as a pixel of
// `out` where the window shrinks: PyTorch's interpolate(mode="bilinear", antialias=True) of the
// cut-out window, to rounding. Plain code: the same bits on every processor.
void resample(std::span<float> out, std::size_t width, std::span<const float> plane,
              const Window& window);

}  // namespace hadal::kernels
