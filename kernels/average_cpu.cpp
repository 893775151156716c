#include <cassert>
#include <cstddef>

#include "kernels/average.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/average_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"
#include "kernels/fused_multiply_add-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void average_vector(D d, float* average, const float* value, float rate) {
  const auto before = hn::LoadU(d, average);
  const auto step = hn::Sub(hn::LoadU(d, value), before);
  hn::StoreU(fused_multiply_add(d, step, hn::Set(d, rate), before), d, average);
}

void MoveAverage(float* average, const float* value, std::size_t count, float rate) {
  const auto body = [=](auto d, std::size_t i)
                        HWY_ATTR { average_vector(d, average + i, value + i, rate); };
  for_each_vector(count, body, average, value);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(MoveAverage);

void move_average(std::span<float> average, std::span<const float> value, float rate) {
  assert(average.size() == value.size());
  HWY_DYNAMIC_DISPATCH(MoveAverage)(average.data(), value.data(), average.size(), rate);
}

}  // namespace hadal::kernels
#endif
