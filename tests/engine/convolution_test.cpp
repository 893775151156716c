#include <ATen/ATen.h>

#include <limits>

#include "engine/convolution_gradient.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

// Leaves numbers that are none in memory that is free, of many sizes.
void dirty_memory(std::int64_t weights) {
  std::vector<at::Tensor> junk;
  for (const std::int64_t count : {std::int64_t{1000}, std::int64_t{20000}, std::int64_t{100000},
                                   std::int64_t{300000}, weights / 2, weights}) {
    junk.push_back(at::full({count}, std::numeric_limits<float>::quiet_NaN()));
  }
}

}  // namespace

TEST_CASE("a weight that never meets the image has no gradient, whatever memory held") {
  engine::repair_convolution_gradient();
  at::manual_seed(1);
  struct Shape {
    std::int64_t image, kernel, stride, padding;
  };
  for (const auto& [image, kernel, stride, padding] :
       std::vector<Shape>{{1, 3, 2, 1}, {1, 5, 1, 2}, {1, 7, 2, 3}, {2, 3, 2, 1}, {8, 3, 1, 1}}) {
    CAPTURE(image, kernel, stride, padding);
    const std::int64_t outputs = (image + 2 * padding - kernel) / stride + 1;
    const at::Tensor x = at::rand({16, 128, image, image}).to(at::kBFloat16);
    const at::Tensor w = at::rand({256, 128, kernel, kernel}).to(at::kBFloat16);
    const at::Tensor g = at::rand({16, 256, outputs, outputs}).to(at::kBFloat16);
    const auto gradient = [&](at::ScalarType type) {
      return std::get<1>(at::convolution_backward(
          g.to(type), x.to(type), w.to(type), at::OptionalIntArrayRef(), {stride, stride},
          {padding, padding}, {1, 1}, false, {0, 0}, 1, {false, true, false}));
    };
    const at::Tensor expected = gradient(at::kFloat);
    for (int time = 0; time < 20; ++time) {
      dirty_memory(w.numel());
      const at::Tensor found = gradient(at::kBFloat16).to(at::kFloat);
      REQUIRE(at::isfinite(found).all().item<bool>());
      REQUIRE(found.masked_select(expected.eq(0)).eq(0).all().item<bool>());
      REQUIRE(at::allclose(found, expected, 0.02, 0.5));
    }
  }
}
