#pragma once
// Which pixels of a line one pixel of the resized line is made of, for CPUs and GPUs alike.

#include "kernels/device_code.hpp"

namespace hadal::kernels {

// The triangle of half-width max(1, in / out) around the pixel's centre, cut at the edges and
// brought to a sum of 1.
struct Taps {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  double centre = 0;
  double support = 0;
  double total = 0;

  HADAL_BOTH double share(std::int64_t j) const {
    const double distance = (static_cast<double>(j) + 0.5 - centre) / support;
    const double share = 1 - (distance < 0 ? -distance : distance);
    return share > 0 ? share : 0;
  }
  HADAL_BOTH float weight(std::int64_t j) const { return static_cast<float>(share(j) / total); }
};

HADAL_BOTH Taps taps_of(std::int64_t pixel, std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  Taps taps;
  taps.support = scale > 1 ? scale : 1;
  taps.centre = scale * (static_cast<double>(pixel) + 0.5);
  const double first = taps.centre - taps.support + 0.5;
  const auto last = static_cast<std::int64_t>(taps.centre + taps.support + 0.5);
  taps.begin = first > 0 ? static_cast<std::int64_t>(first) : 0;
  taps.end = last < in ? last : in;
  for (std::int64_t j = taps.begin; j < taps.end; ++j) taps.total += taps.share(j);
  return taps;
}

}  // namespace hadal::kernels
