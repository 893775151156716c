#pragma once
// The random transforms that a config may ask for: what each is called and how far it goes.

#include <cstdint>
#include <string>

#include "io/dtype.hpp"

namespace hadal::io {

enum class TransformKind { crop, resized_crop, flip, rotate, noise, mixup, cutmix };

// Only the members of its kind mean something.
struct Transform {
  TransformKind kind = TransformKind::flip;
  Shape size;                // crop, resized_crop: spatial extents; empty: the sample's own
  std::int64_t padding = 0;  // crop: put around the sample first, on every side
  std::string axes = "W";    // flip: one of them at a time, by their letters in the layout
  double probability = 0.5;  // flip: of each axis
  double least_area = 0.08;  // resized_crop: share of the sample that is cut out
  double most_area = 1;
  double least_aspect = 3.0 / 4;  // resized_crop: width over height
  double most_aspect = 4.0 / 3;
  double deviation = 0;  // noise: standard deviation, in units of the normalised input
  double alpha = 1;      // mixup, cutmix: the share kept is drawn from Beta(alpha, alpha)

  bool operator==(const Transform&) const = default;
};

constexpr bool is_mixing(TransformKind kind) {
  return kind == TransformKind::mixup || kind == TransformKind::cutmix;
}

}  // namespace hadal::io
