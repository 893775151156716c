#pragma once

#include <map>

namespace at {
class Tensor;
}
namespace c10 {
struct TensorImpl;
}

namespace hadal::engine {

// The leaves of the graph of `loss`: whether their only use is one cast to bfloat16, as autocast
// makes it. That need not be made by the forward pass: a leaf that is rounded already gives the
// same bits.
std::map<const c10::TensorImpl*, bool> only_cast(const at::Tensor& loss);

}  // namespace hadal::engine
