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

// The bits of a value rounded to bfloat16, in the lower half.
template <class D, class V>
HWY_INLINE hn::VFromD<hn::RebindToUnsigned<D>> rounded_bits(D, V x) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), odd));
  const auto is_nan = hn::RebindMask(du, hn::IsNaN(x));
  return hn::IfThenElse(is_nan, hn::Set(du, 0x7fc0u), rounded);
}

template <class D, class V>
HWY_INLINE hn::VFromD<D> as_float(D d, V bits) {
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}

template <class D, class V>
HWY_INLINE void store_bits(D, V bits, std::uint16_t* to) {
  const hn::Rebind<std::uint16_t, D> half;
  // Saturation has nothing to do: all values fit 16 bits.
  hn::StoreU(hn::DemoteTo(half, hn::BitCast(hn::RebindToSigned<D>(), bits)), half, to);
}

template <class D>
HWY_INLINE hn::VFromD<D> load_bits(D d, const std::uint16_t* from) {
  const hn::Rebind<std::uint16_t, D> half;
  return as_float(d, hn::PromoteTo(hn::RebindToUnsigned<D>(), hn::LoadU(half, from)));
}

void ToBfloat16(std::uint16_t* copy, const float* value, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    store_bits(d, rounded_bits(d, hn::LoadU(d, value + i)), copy + i);
  };
  for_each_vector(count, body, value);
}

void FromBfloat16(float* value, const std::uint16_t* copy, std::size_t count) {
  const auto body = [=](auto d, std::size_t i)
                        HWY_ATTR { hn::StoreU(load_bits(d, copy + i), d, value + i); };
  for_each_vector(count, body, copy);
}

void RoundWithFeedback(float* rounded, const float* value, float* lost, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const auto x = hn::Add(hn::LoadU(d, value + i), hn::LoadU(d, lost + i));
    const auto r = as_float(d, rounded_bits(d, x));
    const auto left = hn::Sub(x, r);
    // r may be infinite where x is not; then left is no more finite than r.
    const auto finite = hn::Eq(hn::Sub(left, left), hn::Zero(d));
    hn::StoreU(hn::IfThenElseZero(finite, left), d, lost + i);
    hn::StoreU(r, d, rounded + i);
  };
  for_each_vector(count, body, value, lost);
}

void Follow(float* value, std::uint16_t* change, const float* goal, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const auto x = hn::LoadU(d, value + i);
    const auto bits = rounded_bits(d, hn::Sub(hn::LoadU(d, goal + i), x));
    store_bits(d, bits, change + i);
    hn::StoreU(hn::Add(x, as_float(d, bits)), d, value + i);
  };
  for_each_vector(count, body, value, goal);
}

void AddBfloat16(float* value, const std::uint16_t* change, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, value + i), load_bits(d, change + i)), d, value + i);
  };
  for_each_vector(count, body, value, change);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(ToBfloat16);
HWY_EXPORT(FromBfloat16);
HWY_EXPORT(RoundWithFeedback);
HWY_EXPORT(Follow);
HWY_EXPORT(AddBfloat16);

void to_bfloat16(std::span<std::uint16_t> copy, std::span<const float> value) {
  assert(copy.size() == value.size());
  HWY_DYNAMIC_DISPATCH(ToBfloat16)(copy.data(), value.data(), value.size());
}

void from_bfloat16(std::span<float> value, std::span<const std::uint16_t> copy) {
  assert(copy.size() == value.size());
  HWY_DYNAMIC_DISPATCH(FromBfloat16)(value.data(), copy.data(), value.size());
}

void round_with_feedback(std::span<float> rounded, std::span<const float> value,
                         std::span<float> lost) {
  assert(rounded.size() == value.size() && lost.size() == value.size());
  HWY_DYNAMIC_DISPATCH(RoundWithFeedback)
  (rounded.data(), value.data(), lost.data(), value.size());
}

void follow(std::span<float> value, std::span<std::uint16_t> change, std::span<const float> goal) {
  assert(change.size() == value.size() && goal.size() == value.size());
  HWY_DYNAMIC_DISPATCH(Follow)(value.data(), change.data(), goal.data(), value.size());
}

void add_bfloat16(std::span<float> value, std::span<const std::uint16_t> change) {
  assert(change.size() == value.size());
  HWY_DYNAMIC_DISPATCH(AddBfloat16)(value.data(), change.data(), value.size());
}

}  // namespace hadal::kernels
#endif
