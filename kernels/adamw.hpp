#pragma once
// AdamW (Loshchilov and Hutter 2019, algorithm 2) as one pass over flat spans: both moments and the
// parameter are read and written once. Bias corrections are computed once per step in float64.

#include <cstdint>
#include <span>

#include "kernels/stream.hpp"
#include "kernels/update_memory.hpp"

namespace hadal::kernels {

struct AdamwOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
};

// The scalars of one step, rounded once to float32.
struct AdamwStep {
  float decay = 1;      // 1 - lr * weight_decay
  float step_size = 0;  // lr / (1 - beta1^t)
  float beta2 = 0;
  float one_minus_beta1 = 0;
  float one_minus_beta2 = 0;
  float root = 1;  // sqrt(1 - beta2^t)
  float eps = 0;
  float grad_scale = 1;  // multiplies the gradient first (clipping)
};

// `t` is the number of this update, counted from 1.
AdamwStep adamw_step(const AdamwOptions& options, std::int64_t t, float grad_scale);

// m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2;
// param = decay * param - step_size * m / (sqrt(v) / root + eps), rounded where the vector loop of
// PyTorch's fused AdamW for CPUs rounds: with its bits, but for the last elements of tensors whose
// count is no multiple of its vector.
// All spans have equal length.
void adamw(std::span<float> param, std::span<const float> grad, std::span<float> first_moment,
           std::span<float> second_moment, const AdamwStep& step);

// The same for all blocks of a table, each by the row of its parameter, with the same bits.
void adamw(Stream stream, BlockTable table, const UpdateMemory& memory,
           const UpdateRow<AdamwStep>* rows);

}  // namespace hadal::kernels
