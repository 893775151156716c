#include "kernels/canonical_sum.hpp"

#include <hwy/targets.h>

#include <cmath>
#include <cstring>
#include <random>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(count);
  for (float& v : values) v = normal(engine) * std::exp(4 * normal(engine));
  return values;
}

}  // namespace

TEST_CASE("covering nodes are maximal and cover exactly") {
  for (std::int64_t begin = 0; begin < 40; ++begin) {
    for (std::int64_t end = begin; end < 40; ++end) {
      std::int64_t at = begin;
      const auto nodes = kernels::covering_nodes(begin, end);
      for (const kernels::TreeNode node : nodes) {
        REQUIRE(node.begin() == at);
        at = node.end();
        // Its parent would leave the range, else it were not maximal.
        REQUIRE((node.parent().begin() < begin || node.parent().end() > end));
      }
      REQUIRE(at == end);
      REQUIRE(nodes.size() <= 2 * 6);
    }
  }
  REQUIRE(kernels::covering_nodes(8, 16).size() == 1);
}

TEST_CASE("sums round once per element, on every instruction set") {
  for (const std::size_t count : {0u, 1u, 7u, 8u, 33u, 4096u, 5003u}) {
    const std::vector<float> a = random_floats(count, 1), b = random_floats(count, 2);
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      CAPTURE(count, hwy::TargetName(target));
      std::vector<float> sum = a, scaled = a;
      kernels::add_into(sum, b);
      kernels::add_scaled(scaled, 0.3f, b);
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(sum[i] == a[i] + b[i]);
        REQUIRE(scaled[i] == std::fma(0.3f, b[i], a[i]));
      }
      hwy::SetSupportedTargetsForTest(0);
    }
  }
}
