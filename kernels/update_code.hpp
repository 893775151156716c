#pragma once
// For X_cuda.cu of the optimizers: what several of them do in a pass.

#include "kernels/bfloat16_code.hpp"
#include "kernels/device_code.hpp"
#include "kernels/update_memory.hpp"

namespace hadal::kernels {

// Both moments of AdamW and LAMB (kernels/adamw.hpp has the formulas) with one element's gradient.
template <class Step>
HADAL_BOTH void move_moments(float grad, const Step& s, float& first, float& second) {
  const float g = grad * s.grad_scale;
  first = fused(g - first, s.one_minus_beta1, first);
  second = fused(s.one_minus_beta2 * g, g, second * s.beta2);
}

// Stores the updated parameters, moves their average, rounds their copy.
template <int N>
HADAL_BOTH void finish_update(const UpdateMemory& memory, const Block& block, std::int32_t i,
                              const Pack<float, N>& param) {
  const std::int64_t place = block.offset + i;
  store<N>(param, memory.param + place);
  if (memory.rounded != nullptr) {
    Pack<std::uint16_t, N> copy;
    for (int k = 0; k < N; ++k) copy.at[k] = rounded_to_bfloat16(param.at[k]);
    store<N>(copy, memory.rounded + place);
  }
  if (memory.average == nullptr) return;
  float* const to = memory.average + block.state + i;
  Pack<float, N> average = load<N>(to);
  for (int k = 0; k < N; ++k) {
    average.at[k] = fused(param.at[k] - average.at[k], memory.average_rate, average.at[k]);
  }
  store<N>(average, to);
}

inline bool is_aligned(const UpdateMemory& m) {
  return is_aligned(m.param, m.grad, m.first, m.second, m.average, m.rounded);
}

}  // namespace hadal::kernels
