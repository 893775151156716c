#include <cassert>
#include <cmath>
#include <cstddef>

#include "kernels/adamw.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/adamw_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"
#include "kernels/fused_multiply_add-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
struct AdamwConstants {
  hn::Vec<D> decay, step_size, beta2, one_minus_beta1, one_minus_beta2, root, eps, scale;
  AdamwConstants(D d, const AdamwStep& s)
      : decay(hn::Set(d, s.decay)),
        step_size(hn::Set(d, -s.step_size)),
        beta2(hn::Set(d, s.beta2)),
        one_minus_beta1(hn::Set(d, s.one_minus_beta1)),
        one_minus_beta2(hn::Set(d, s.one_minus_beta2)),
        root(hn::Set(d, s.root)),
        eps(hn::Set(d, s.eps)),
        scale(hn::Set(d, s.grad_scale)) {}
};

template <class D>
HWY_INLINE void adamw_vector(D d, float* param, const float* grad, float* first, float* second,
                             const AdamwConstants<D>& c) {
  const auto g = hn::Mul(hn::LoadU(d, grad), c.scale);
  auto m = hn::LoadU(d, first);
  m = fused_multiply_add(d, hn::Sub(g, m), c.one_minus_beta1, m);
  hn::StoreU(m, d, first);
  const auto v = fused_multiply_add(d, hn::Mul(c.one_minus_beta2, g), g,
                                    hn::Mul(hn::LoadU(d, second), c.beta2));
  hn::StoreU(v, d, second);
  const auto denominator = hn::Add(hn::Div(hn::Sqrt(v), c.root), c.eps);
  const auto decayed = hn::Mul(hn::LoadU(d, param), c.decay);
  hn::StoreU(hn::Add(decayed, hn::Div(hn::Mul(c.step_size, m), denominator)), d, param);
}

void Adamw(float* param, const float* grad, float* first, float* second, std::size_t count,
           const AdamwStep& step) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    adamw_vector(d, param + i, grad + i, first + i, second + i,
                 AdamwConstants<decltype(d)>(d, step));
  };
  for_each_vector(count, body, param, grad, first, second);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(Adamw);

AdamwStep adamw_step(const AdamwOptions& options, std::int64_t t, float grad_scale) {
  const double correction1 = 1.0 - std::pow(options.beta1, static_cast<double>(t));
  const double correction2 = 1.0 - std::pow(options.beta2, static_cast<double>(t));
  return {.decay = static_cast<float>(1.0 - options.lr * options.weight_decay),
          .step_size = static_cast<float>(options.lr / correction1),
          .beta2 = static_cast<float>(options.beta2),
          .one_minus_beta1 = static_cast<float>(1.0 - options.beta1),
          .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
          .root = static_cast<float>(std::sqrt(correction2)),
          .eps = static_cast<float>(options.eps),
          .grad_scale = grad_scale};
}

void adamw(std::span<float> param, std::span<const float> grad, std::span<float> first_moment,
           std::span<float> second_moment, const AdamwStep& step) {
  assert(param.size() == grad.size() && param.size() == first_moment.size() &&
         param.size() == second_moment.size());
  HWY_DYNAMIC_DISPATCH(Adamw)
  (param.data(), grad.data(), first_moment.data(), second_moment.data(), param.size(), step);
}

}  // namespace hadal::kernels
#endif
