#include "kernels/norm.hpp"

#include <hwy/targets.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("a block's sum of squares has the same bits on every instruction set") {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal(0, 1);
  for (const std::size_t count : {0u, 1u, 31u, 32u, 63u, 1000u, 4096u}) {
    std::vector<float> x(count);
    for (float& v : x) v = normal(engine);
    // The definition: 32 lanes, joined pairwise.
    double lanes[32] = {};
    for (std::size_t i = 0; i < count; ++i) {
      lanes[i % 32] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    for (std::size_t width = 16; width > 0; width /= 2) {
      for (std::size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      CAPTURE(count, hwy::TargetName(target));
      REQUIRE(kernels::sum_of_squares(x) == lanes[0]);
      hwy::SetSupportedTargetsForTest(0);
    }
  }
}

TEST_CASE("a block with a value that is not finite has no finite sum") {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (std::size_t place = 0; place < 100; place += 33) {
      std::vector<float> x(100, 1.0f);
      x[place] = bad;
      REQUIRE_FALSE(std::isfinite(kernels::sum_of_squares(x)));
    }
  }
  const std::vector<float> large(4096, std::numeric_limits<float>::max());
  REQUIRE(std::isfinite(kernels::sum_of_squares(large)));
}
