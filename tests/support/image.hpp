#pragma once

#include <utility>
#include <vector>

#include "io/data_index.hpp"

namespace hadal::tests {

// The input /x, as float32, with these changes in training.
inline io::FieldOptions image(std::vector<io::Transform> transforms) {
  return {.name = "image",
          .role = io::FieldRole::input,
          .path = "/x",
          .files = {},
          .dtype = io::DType::f32,
          .augment = std::move(transforms)};
}

}  // namespace hadal::tests
