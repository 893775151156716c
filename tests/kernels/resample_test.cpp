#include "kernels/resample.hpp"

#include <ATen/core/Tensor.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/from_blob.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/noise.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace hadal;

TEST_CASE("a window in another size is PyTorch's antialiased interpolation of what was cut out") {
  std::mt19937 engine(5);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<float> plane(40 * 53);
  for (float& value : plane) value = values(engine);
  const at::Tensor whole = at::from_blob(plane.data(), {1, 1, 40, 53});
  for (const auto& [top, left, height, width, out_height, out_width] :
       std::vector<std::array<std::int64_t, 6>>{{0, 0, 40, 53, 40, 53},
                                                {3, 7, 30, 41, 11, 13},
                                                {39, 52, 1, 1, 5, 4},
                                                {5, 0, 7, 50, 32, 3},
                                                {0, 10, 40, 9, 1, 40}}) {
    CAPTURE(top, left, height, width, out_height, out_width);
    const at::Tensor expected = at::_upsample_bilinear2d_aa(
        whole.slice(2, top, top + height).slice(3, left, left + width).contiguous(),
        {out_height, out_width}, /*align_corners=*/false);
    std::vector<float> found(static_cast<std::size_t>(out_height * out_width));
    kernels::resample(found, static_cast<std::size_t>(out_width), plane,
                      {.top = static_cast<std::size_t>(top),
                       .left = static_cast<std::size_t>(left),
                       .height = static_cast<std::size_t>(height),
                       .width = static_cast<std::size_t>(width),
                       .stride = 53});
    const float* const wanted = expected.const_data_ptr<float>();
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (std::abs(found[i] - wanted[i]) > 2e-6f) FAIL(found[i] << " instead of " << wanted[i]);
    }
  }
}

TEST_CASE("noise is normal, the same on every instruction set, and another for every key") {
  constexpr std::size_t kCount = 1'000'003;
  std::vector<float> first;
  tests::on_every_target([&] {
    std::vector<float> drawn(kCount, 0.0f);
    kernels::add_noise(drawn, 1, 42);
    if (first.empty()) first = drawn;
    REQUIRE(drawn == first);
  });
  std::vector<float> other(kCount, 0.0f), second_key(kCount, 0.0f), added(kCount, 3.0f);
  kernels::add_noise(other, 1, 43);
  kernels::add_noise(second_key, 1, 42 + (std::uint64_t{1} << 32));
  kernels::add_noise(added, 0.5f, 42);
  double product = 0, high_product = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    product += static_cast<double>(first[i]) * other[i];
    high_product += static_cast<double>(first[i]) * second_key[i];
    REQUIRE(std::abs(added[i] - (3 + first[i] / 2)) < 1e-6f);
  }
  // Five standard deviations of a mean of independent products.
  const double bound = 5 / std::sqrt(static_cast<double>(kCount));
  REQUIRE(std::abs(product / kCount) < bound);
  REQUIRE(std::abs(high_product / kCount) < bound);
  // Neighbours are independent too.
  double neighbours = 0;
  for (std::size_t i = 1; i < kCount; ++i)
    neighbours += static_cast<double>(first[i]) * first[i - 1];
  REQUIRE(std::abs(neighbours / kCount) < bound);
  // Kolmogorov and Smirnov's distance: 1.95 / sqrt(n) is passed once in a thousand draws, 0.0005
  // more is what the approximation may be off.
  std::sort(first.begin(), first.end());
  double furthest = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const double normal = 0.5 * std::erfc(-static_cast<double>(first[i]) / std::sqrt(2.0));
    const double own = (static_cast<double>(i) + 0.5) / kCount;
    furthest = std::max(furthest, std::abs(own - normal));
  }
  REQUIRE(furthest < 1.95 / std::sqrt(static_cast<double>(kCount)) + 0.0005);
}
