#include <cassert>
#include <cstddef>
#include <cstring>

#include "kernels/values.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/values_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class In>
HWY_INLINE void widen_all(float* out, const In* in, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> whole;
    const hn::Rebind<In, decltype(d)> narrow;
    hn::StoreU(hn::ConvertTo(d, hn::PromoteTo(whole, hn::LoadU(narrow, in + i))), d, out + i);
  };
  for_each_vector(count, body, in);
}

void WidenU8(float* out, const std::uint8_t* in, std::size_t count) { widen_all(out, in, count); }
void WidenI8(float* out, const std::int8_t* in, std::size_t count) { widen_all(out, in, count); }
void WidenU16(float* out, const std::uint16_t* in, std::size_t count) { widen_all(out, in, count); }
void WidenI16(float* out, const std::int16_t* in, std::size_t count) { widen_all(out, in, count); }

void Normalise(float* values, float scale, float mean, float std, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, values + i), hn::Set(d, scale));
    hn::StoreU(hn::Div(hn::Sub(scaled, hn::Set(d, mean)), hn::Set(d, std)), d, values + i);
  };
  for_each_vector(count, body, values);
}

// The bits of a magnitude grow with it; infinity and NaN have the largest.
bool AllFinite(const float* values, std::size_t count) {
  const hn::ScalableTag<std::int32_t> d;
  const auto* bits = reinterpret_cast<const std::int32_t*>(values);
  const auto magnitude = hn::Set(d, 0x7fffffff);
  const std::size_t lanes = hn::Lanes(d);
  auto first = hn::Zero(d), second = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    first = hn::Max(first, hn::And(hn::LoadU(d, bits + i), magnitude));
    second = hn::Max(second, hn::And(hn::LoadU(d, bits + i + lanes), magnitude));
  }
  std::int32_t largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(first, second)));
  for (; i < count; ++i) {
    std::int32_t one = 0;
    std::memcpy(&one, values + i, sizeof one);
    one &= 0x7fffffff;
    largest = one > largest ? one : largest;
  }
  return largest < 0x7f800000;
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(WidenU8);
HWY_EXPORT(WidenI8);
HWY_EXPORT(WidenU16);
HWY_EXPORT(WidenI16);
HWY_EXPORT(Normalise);
HWY_EXPORT(AllFinite);

void widen(std::span<float> out, std::span<const std::uint8_t> in) {
  assert(out.size() == in.size());
  HWY_DYNAMIC_DISPATCH(WidenU8)(out.data(), in.data(), in.size());
}

void widen(std::span<float> out, std::span<const std::int8_t> in) {
  assert(out.size() == in.size());
  HWY_DYNAMIC_DISPATCH(WidenI8)(out.data(), in.data(), in.size());
}

void widen(std::span<float> out, std::span<const std::uint16_t> in) {
  assert(out.size() == in.size());
  HWY_DYNAMIC_DISPATCH(WidenU16)(out.data(), in.data(), in.size());
}

void widen(std::span<float> out, std::span<const std::int16_t> in) {
  assert(out.size() == in.size());
  HWY_DYNAMIC_DISPATCH(WidenI16)(out.data(), in.data(), in.size());
}

void normalise(std::span<float> values, float scale, float mean, float std) {
  HWY_DYNAMIC_DISPATCH(Normalise)(values.data(), scale, mean, std, values.size());
}

bool all_finite(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(AllFinite)(values.data(), values.size());
}

}  // namespace hadal::kernels
#endif
