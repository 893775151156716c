#pragma once
// The pieces of LAMB (You et al. 2020, algorithm 2, moments corrected for their bias): Adam's
// moments, and the update that a layer's trust ratio scales. A step goes over a parameter twice,
// block by block: moments, update and norms; then, with the ratio known, the update once more and
// into the parameter. Recomputing it moves less memory than keeping it would.

#include <cstdint>
#include <span>

#include "kernels/adamw.hpp"

namespace hadal::kernels {

// The scalars of one step, rounded once to float32.
struct LambStep {
  float beta2 = 0;
  float one_minus_beta1 = 0;
  float one_minus_beta2 = 0;
  float correction1 = 1;  // 1 - beta1^t
  float root = 1;         // sqrt(1 - beta2^t)
  float eps = 0;
  float weight_decay = 0;
  float grad_scale = 1;  // multiplies the gradient first (clipping)
};

// `t` is the number of this update, counted from 1; the learning rate plays no part.
LambStep lamb_step(const AdamwOptions& options, std::int64_t t, float grad_scale);

// m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2, as adamw() has them.
void lamb_moments(std::span<const float> grad, std::span<float> first_moment,
                  std::span<float> second_moment, const LambStep& step);

// update = (m / correction1) / (sqrt(v) / root + eps) + weight_decay * param. In both, all spans
// have equal length.
void lamb_update(std::span<float> update, std::span<const float> param,
                 std::span<const float> first_moment, std::span<const float> second_moment,
                 const LambStep& step);

// The same for all blocks of a table, each by the row of its parameter, with the same bits: the
// moments; the sums of squares of the updates, block by block (sums[stride * b]); and param +=
// factor * update. Device memory.
void lamb_moments(Stream stream, BlockTable table, const UpdateMemory& memory,
                  const UpdateRow<LambStep>* rows);
void lamb_update_squares(Stream stream, BlockTable table, const UpdateMemory& memory,
                         const UpdateRow<LambStep>* rows, double* sums, int stride);
void lamb(Stream stream, BlockTable table, const UpdateMemory& memory,
          const UpdateRow<LambStep>* rows);

}  // namespace hadal::kernels
