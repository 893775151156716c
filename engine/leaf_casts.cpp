#include "engine/leaf_casts.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <set>
#include <vector>

namespace hadal::engine {

std::map<const c10::TensorImpl*, bool> only_cast(const at::Tensor& loss) {
  using torch::autograd::AccumulateGrad;
  using torch::autograd::Node;
  std::map<const c10::TensorImpl*, bool> found;
  std::set<Node*> seen;
  std::vector<Node*> open;
  if (loss.grad_fn() != nullptr) open.push_back(loss.grad_fn().get());
  while (!open.empty()) {
    Node* const node = open.back();
    open.pop_back();
    if (!seen.insert(node).second) continue;
    const bool casts = node->name() == "ToCopyBackward0" && node->num_inputs() == 1 &&
                       node->input_metadata(0).dtype() == at::kBFloat16;
    for (const torch::autograd::Edge& edge : node->next_edges()) {
      if (edge.function == nullptr) continue;
      if (const auto* leaf = dynamic_cast<AccumulateGrad*>(edge.function.get())) {
        const auto [place, first] = found.emplace(leaf->variable.unsafeGetTensorImpl(), casts);
        if (!first) place->second = false;
      } else {
        open.push_back(edge.function.get());
      }
    }
  }
  return found;
}

}  // namespace hadal::engine
