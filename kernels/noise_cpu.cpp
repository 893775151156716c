#include <cstddef>

#include "kernels/noise.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/noise_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The 32-bit mixer with the least bias found by Wellons ("Prospecting for hash functions", 2018).
template <class D, class V>
HWY_INLINE V hash(D d, V x) {
  x = hn::Xor(x, hn::ShiftRight<16>(x));
  x = hn::Mul(x, hn::Set(d, 0x7feb352du));
  x = hn::Xor(x, hn::ShiftRight<15>(x));
  x = hn::Mul(x, hn::Set(d, 0x846ca68bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

// How many bits of each lane are set (Warren 2012, "Hacker's delight", section 5-1).
template <class D, class V>
HWY_INLINE V ones(D d, V x) {
  x = hn::Sub(x, hn::And(hn::ShiftRight<1>(x), hn::Set(d, 0x55555555u)));
  const auto pairs = hn::Set(d, 0x33333333u);
  x = hn::Add(hn::And(x, pairs), hn::And(hn::ShiftRight<2>(x), pairs));
  x = hn::And(hn::Add(x, hn::ShiftRight<4>(x)), hn::Set(d, 0x0f0f0f0fu));
  return hn::ShiftRight<24>(hn::Mul(x, hn::Set(d, 0x01010101u)));
}

void AddNoise(float* values, float step, std::uint64_t key, std::size_t count) {
  const auto low = static_cast<std::uint32_t>(key);
  const auto high = static_cast<std::uint32_t>(key >> 32);
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const hn::RebindToUnsigned<decltype(d)> whole;
    const hn::RebindToSigned<decltype(d)> signed_whole;
    const auto counter = hn::Iota(whole, static_cast<std::uint32_t>(i));
    const auto draw = [&](std::uint32_t which) HWY_ATTR {
      const auto first = hash(whole, hn::Xor(counter, hn::Set(whole, low + which * 0x9e3779b9u)));
      return hash(whole, hn::Xor(first, hn::Set(whole, high)));
    };
    const auto set = hn::Add(ones(whole, draw(0)), ones(whole, draw(1)));
    const auto spread = draw(2);
    const auto triangle =
        hn::Add(hn::And(spread, hn::Set(whole, 0xffffu)), hn::ShiftRight<16>(spread));
    // In 65536ths of a step, exact in float: below 2^24.
    const auto sum =
        hn::Sub(hn::Add(hn::ShiftLeft<16>(set), triangle), hn::Set(whole, (32u << 16) + 0xffffu));
    const auto drawn = hn::ConvertTo(d, hn::BitCast(signed_whole, sum));
    hn::StoreU(hn::Add(hn::LoadU(d, values + i), hn::Mul(drawn, hn::Set(d, step))), d, values + i);
  };
  for_each_vector(count, body, values);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(AddNoise);

float noise_step(float deviation) {
  // 64 bits have the variance 16, the sum of two uniform draws of width 1 has 1/6.
  constexpr double kDeviation = 4.020779360604941 * 65536;
  return static_cast<float>(deviation / kDeviation);
}

void add_noise(std::span<float> values, float deviation, std::uint64_t key) {
  HWY_DYNAMIC_DISPATCH(AddNoise)(values.data(), noise_step(deviation), key, values.size());
}

}  // namespace hadal::kernels
#endif
