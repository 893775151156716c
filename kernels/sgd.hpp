#pragma once
// Stochastic gradient descent as one pass over flat spans: decay, momentum and the parameter update
// read and write each value once. The order of operations and the roundings are those of
// torch.optim.SGD on CPU (single-tensor path), so equal inputs give PyTorch's own bits.

#include <span>

#include "kernels/stream.hpp"
#include "kernels/update_memory.hpp"

namespace hadal::kernels {

struct SgdStep {
  float lr = 0;
  float momentum = 0;      // 0: no momentum buffer is read or written
  float weight_decay = 0;  // added to the gradient, as in torch.optim.SGD
  float grad_scale = 1;    // multiplies the gradient first (clipping)
  bool nesterov = false;
};

// With g = grad_scale * grad + weight_decay * param: buffer = momentum * buffer + g, then
// param -= lr * (nesterov ? g + momentum * buffer : buffer). All spans have equal length; `buffer`
// starts as zeros and may be empty where momentum is 0.
void sgd(std::span<float> param, std::span<const float> grad, std::span<float> buffer,
         const SgdStep& step);

// The same for all blocks of a table, each by the row of its parameter, with the same bits; the
// buffer is the first moment.
void sgd(Stream stream, BlockTable table, const UpdateMemory& memory,
         const UpdateRow<SgdStep>* rows);

}  // namespace hadal::kernels
