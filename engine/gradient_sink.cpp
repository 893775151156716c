#include "engine/gradient_sink.hpp"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <memory>

#include "engine/batch_tensors.hpp"

namespace hadal::engine {

// Takes a leaf's gradient into the arena as soon as it is complete: no zeroing before, no
// accumulation, and autograd's own memory is free again at once.
class TakeGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  TakeGradient(GradientSink& sink, std::size_t entry)
      : sink_(sink), entry_(entry), place_(sink.place(entry)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    at::Tensor& gradient = leaf.mutable_grad();
    place_.copy_(gradient);
    gradient.reset();
    sink_.taken(entry_);
  }

 private:
  GradientSink& sink_;
  std::size_t entry_;
  at::Tensor place_;
};

GradientSink::GradientSink(const ArenaLayout& layout, std::span<float> gradient, at::Device device)
    : layout_(layout), gradient_(gradient), device_(device) {}

at::Tensor GradientSink::place(std::size_t entry) const {
  const ArenaEntry& its = layout_.entries()[entry];
  return values_at(gradient_.data() + its.offset, its.shape, at::kFloat, device_);
}

void GradientSink::taken(std::size_t entry) {
  const std::vector<ArenaEntry>& entries = layout_.entries();
  const std::int64_t end = entries[entry].offset + entries[entry].count;
  const std::int64_t next = entry + 1 < entries.size() ? entries[entry + 1].offset : layout_.size();
  // Padding takes part in the sums and must not hold what an earlier use of the memory left.
  if (device_.is_cpu()) std::fill(gradient_.data() + end, gradient_.data() + next, 0.0f);
  arrived_[entry] = 1;
  if (tell_) tell_(entry);
}

void GradientSink::open(std::span<at::Tensor* const> leaves, Arrived tell) {
  arrived_.assign(leaves.size(), 0);
  tell_ = std::move(tell);
  for (std::size_t e = 0; e < leaves.size(); ++e) {
    torch::autograd::impl::set_post_acc_grad_hooks(*leaves[e],
                                                   std::make_unique<TakeGradient>(*this, e));
  }
}

void GradientSink::close() {
  for (std::size_t e = 0; e < arrived_.size(); ++e) {
    if (arrived_[e] != 0) continue;
    place(e).zero_();
    taken(e);
    arrived_[e] = 0;
  }
}

}  // namespace hadal::engine
