#pragma once
// For X_cuda.cu of the optimizers: what comes after a parameter's update, in the same pass.

#include "kernels/bfloat16_code.hpp"
#include "kernels/device_code.hpp"
#include "kernels/update_memory.hpp"

namespace hadal::kernels {

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
