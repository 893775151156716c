#pragma once

#include <algorithm>
#include <vector>

namespace hadal::engine {

// The upper one of two in the middle. At least one value.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace hadal::engine
