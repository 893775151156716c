#include <cassert>
#include <cstddef>

#include "kernels/bfloat16.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bfloat16_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void ToBfloat16(std::uint16_t* copy, const float* value, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const hn::RebindToUnsigned<decltype(d)> du;
    const hn::Rebind<std::uint16_t, decltype(d)> half;
    const auto x = hn::LoadU(d, value + i);
    const auto bits = hn::BitCast(du, x);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd));
    const auto is_nan = hn::RebindMask(du, hn::Ne(x, x));
    const auto kept = hn::IfThenElse(is_nan, hn::Set(du, 0x7fc0u), rounded);
    // Saturation has nothing to do: all values fit 16 bits.
    hn::StoreU(hn::DemoteTo(half, hn::BitCast(hn::RebindToSigned<decltype(d)>(), kept)), half,
               copy + i);
  };
  for_each_vector(count, body, value);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(ToBfloat16);

void to_bfloat16(std::span<std::uint16_t> copy, std::span<const float> value) {
  assert(copy.size() == value.size());
  HWY_DYNAMIC_DISPATCH(ToBfloat16)(copy.data(), value.data(), value.size());
}

}  // namespace hadal::kernels
#endif
