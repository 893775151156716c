#include <cassert>
#include <cstddef>

#include "kernels/sgd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/sgd_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"
#include "kernels/fused_multiply_add-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void sgd_vector(D d, float* param, const float* grad, float* buffer,
                           const SgdStep& step) {
  const auto p = hn::LoadU(d, param);
  auto g = hn::LoadU(d, grad);
  if (step.grad_scale != 1.0f) g = hn::Mul(g, hn::Set(d, step.grad_scale));
  if (step.weight_decay != 0.0f) g = fused_multiply_add(d, p, hn::Set(d, step.weight_decay), g);
  auto direction = g;
  if (step.momentum != 0.0f) {
    const auto momentum = hn::Set(d, step.momentum);
    const auto b = hn::Add(hn::Mul(hn::LoadU(d, buffer), momentum), g);
    hn::StoreU(b, d, buffer);
    direction = step.nesterov ? fused_multiply_add(d, b, momentum, g) : b;
  }
  hn::StoreU(fused_multiply_add(d, direction, hn::Set(d, -step.lr), p), d, param);
}

void Sgd(float* param, const float* grad, float* buffer, std::size_t count, const SgdStep& step) {
  // A null buffer must not be offset: there is none without momentum.
  if (buffer == nullptr) {
    const auto body = [=](auto d, std::size_t i)
                          HWY_ATTR { sgd_vector(d, param + i, grad + i, nullptr, step); };
    for_each_vector(count, body, param, grad);
  } else {
    const auto body = [=](auto d, std::size_t i)
                          HWY_ATTR { sgd_vector(d, param + i, grad + i, buffer + i, step); };
    for_each_vector(count, body, param, grad, buffer);
  }
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(Sgd);

void sgd(std::span<float> param, std::span<const float> grad, std::span<float> buffer,
         const SgdStep& step) {
  assert(param.size() == grad.size());
  assert(step.momentum == 0.0f || buffer.size() == param.size());
  float* const b = step.momentum == 0.0f ? nullptr : buffer.data();
  HWY_DYNAMIC_DISPATCH(Sgd)(param.data(), grad.data(), b, param.size(), step);
}

}  // namespace hadal::kernels
#endif
