#include <cstddef>

#include "kernels/norm.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 32 lanes hide the latency of the addition on every target (8 AVX2 vectors, 4 AVX-512 vectors).
inline constexpr std::size_t kLanes = 32;

double SumOfSquares(const float* x, std::size_t count) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> df;
  const std::size_t lanes = hn::Lanes(d);
  HWY_ALIGN double sums[kLanes] = {};
  const std::size_t full = count / kLanes * kLanes;
  const auto square = [&](std::size_t i) {
    const auto v = hn::PromoteTo(d, hn::LoadU(df, x + i));
    return hn::Mul(v, v);
  };
  // One pass per group of four vectors keeps the accumulators in registers on every target.
  for (std::size_t lane = 0; lane < kLanes; lane += 4 * lanes) {
    auto a = hn::Zero(d), b = a, c = a, e = a;
    for (std::size_t i = lane; i < full; i += kLanes) {
      a = hn::Add(a, square(i));
      b = hn::Add(b, square(i + lanes));
      c = hn::Add(c, square(i + 2 * lanes));
      e = hn::Add(e, square(i + 3 * lanes));
    }
    hn::Store(a, d, sums + lane);
    hn::Store(b, d, sums + lane + lanes);
    hn::Store(c, d, sums + lane + 2 * lanes);
    hn::Store(e, d, sums + lane + 3 * lanes);
  }
  for (std::size_t i = full; i < count; ++i) {
    const double v = static_cast<double>(x[i]);
    sums[i - full] += v * v;
  }
  for (std::size_t width = kLanes / 2; width > 0; width /= 2) {
    for (std::size_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(SumOfSquares);

double sum_of_squares(std::span<const float> block) {
  return HWY_DYNAMIC_DISPATCH(SumOfSquares)(block.data(), block.size());
}

}  // namespace hadal::kernels
#endif
