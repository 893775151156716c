#include <cassert>
#include <cmath>
#include <cstddef>

#include "kernels/lamb.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lamb_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"
#include "kernels/fused_multiply_add-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void moments_vector(D d, const float* grad, float* first, float* second,
                               const LambStep& s) {
  const auto g = hn::Mul(hn::LoadU(d, grad), hn::Set(d, s.grad_scale));
  const auto m = hn::LoadU(d, first);
  hn::StoreU(fused_multiply_add(d, hn::Sub(g, m), hn::Set(d, s.one_minus_beta1), m), d, first);
  hn::StoreU(fused_multiply_add(d, hn::Mul(hn::Set(d, s.one_minus_beta2), g), g,
                                hn::Mul(hn::LoadU(d, second), hn::Set(d, s.beta2))),
             d, second);
}

template <class D>
HWY_INLINE void update_vector(D d, float* update, const float* param, const float* first,
                              const float* second, const LambStep& s) {
  const auto root = hn::Sqrt(hn::LoadU(d, second));
  const auto denominator = hn::Add(hn::Div(root, hn::Set(d, s.root)), hn::Set(d, s.eps));
  const auto mean = hn::Div(hn::LoadU(d, first), hn::Set(d, s.correction1));
  const auto adam = hn::Div(mean, denominator);
  hn::StoreU(fused_multiply_add(d, hn::LoadU(d, param), hn::Set(d, s.weight_decay), adam), d,
             update);
}

void LambMoments(const float* grad, float* first, float* second, std::size_t count,
                 const LambStep& step) {
  const auto body = [=](auto d, std::size_t i)
                        HWY_ATTR { moments_vector(d, grad + i, first + i, second + i, step); };
  for_each_vector(count, body, grad, first, second);
}

void LambUpdate(float* update, const float* param, const float* first, const float* second,
                std::size_t count, const LambStep& step) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    update_vector(d, update + i, param + i, first + i, second + i, step);
  };
  for_each_vector(count, body, param, first, second);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(LambMoments);
HWY_EXPORT(LambUpdate);

LambStep lamb_step(const AdamwOptions& options, std::int64_t t, float grad_scale) {
  const auto power = static_cast<double>(t);
  return {.beta2 = static_cast<float>(options.beta2),
          .one_minus_beta1 = static_cast<float>(1.0 - options.beta1),
          .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
          .correction1 = static_cast<float>(1.0 - std::pow(options.beta1, power)),
          .root = static_cast<float>(std::sqrt(1.0 - std::pow(options.beta2, power))),
          .eps = static_cast<float>(options.eps),
          .weight_decay = static_cast<float>(options.weight_decay),
          .grad_scale = grad_scale};
}

void lamb_moments(std::span<const float> grad, std::span<float> first_moment,
                  std::span<float> second_moment, const LambStep& step) {
  assert(grad.size() == first_moment.size() && grad.size() == second_moment.size());
  HWY_DYNAMIC_DISPATCH(LambMoments)
  (grad.data(), first_moment.data(), second_moment.data(), grad.size(), step);
}

void lamb_update(std::span<float> update, std::span<const float> param,
                 std::span<const float> first_moment, std::span<const float> second_moment,
                 const LambStep& step) {
  assert(update.size() == param.size() && param.size() == first_moment.size() &&
         param.size() == second_moment.size());
  HWY_DYNAMIC_DISPATCH(LambUpdate)
  (update.data(), param.data(), first_moment.data(), second_moment.data(), update.size(), step);
}

}  // namespace hadal::kernels
#endif
