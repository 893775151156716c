#include "engine/worker.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstring>

namespace hadal::engine {
namespace {

// Takes a leaf's gradient into the arena as soon as it is complete: no zeroing before, no
// accumulation, and autograd's own memory is free again at once.
class TakeGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  TakeGradient(at::Tensor place, std::uint8_t& arrived)
      : place_(std::move(place)), arrived_(arrived) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    at::Tensor& gradient = leaf.mutable_grad();
    place_.copy_(gradient);
    gradient.reset();
    arrived_ = 1;
  }

 private:
  at::Tensor place_;
  std::uint8_t& arrived_;
};

at::ScalarType to_aten(io::DType dtype) {
  return dtype == io::DType::i64 ? at::kLong : (dtype == io::DType::u8 ? at::kByte : at::kFloat);
}

// The batch keeps the memory alive for as long as the tensors are used.
std::vector<at::Tensor> as_tensors(const std::vector<io::FieldBatch>& fields) {
  std::vector<at::Tensor> tensors;
  for (const io::FieldBatch& field : fields) {
    tensors.push_back(at::from_blob(const_cast<std::byte*>(field.bytes.data()), field.shape,
                                    to_aten(field.dtype)));
  }
  return tensors;
}

}  // namespace

struct Worker::Impl {
  const Model& model;
  const ArenaLayout& layout;
  const Objective& objective;
  std::vector<at::Tensor> leaves;  // in the model's order
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  bool checked = false;

  Impl(const Model& m, const ArenaLayout& l, const Objective& o, std::span<float> parameters)
      : model(m), layout(l), objective(o), leaves(m.parameters().size()) {
    for (const ArenaEntry& entry : layout.entries()) {
      leaves[entry.parameter] =
          at::from_blob(parameters.data() + entry.offset, entry.shape, at::kFloat);
      leaves[entry.parameter].requires_grad_(true);
    }
  }

  std::vector<at::Tensor> buffer_tensors(BufferValues& values) const {
    std::vector<at::Tensor> tensors;
    std::size_t floats = 0, integers = 0;
    for (const BufferSpec& spec : model.buffers()) {
      const auto count = static_cast<std::size_t>(io::element_count(spec.shape));
      if (spec.dtype == io::DType::f32) {
        tensors.push_back(at::from_blob(values.floats.data() + floats, spec.shape, at::kFloat));
        floats += count;
      } else {
        tensors.push_back(at::from_blob(values.integers.data() + integers, spec.shape, at::kLong));
        integers += count;
      }
    }
    return tensors;
  }

  std::vector<at::Tensor> forward(const std::vector<at::Tensor>& inputs, BufferValues& values,
                                  bool training) {
    std::vector<at::Tensor> buffers = buffer_tensors(values);
    ForwardContext context{
        .parameters = leaves, .buffers = buffers, .training = training, .generator = &generator};
    return model.forward(inputs, context);
  }

  void check_once(const at::Tensor& output, const at::Tensor& target) {
    if (!checked) objective.check_shapes(output, target);
    checked = true;
  }
};

Worker::Worker(const Model& model, const ArenaLayout& layout, const Objective& objective,
               std::span<float> parameters)
    : impl_(std::make_unique<Impl>(model, layout, objective, parameters)) {}

Worker::~Worker() = default;

MicroBatchResult Worker::train(const io::Batch& batch, float factor, std::uint64_t seed,
                               const BufferValues& buffers, std::span<float> gradient) {
  MicroBatchResult result{.buffers = buffers};
  impl_->generator.set_current_seed(seed);
  std::vector<std::uint8_t> arrived(impl_->layout.entries().size(), 0);
  for (std::size_t e = 0; e < arrived.size(); ++e) {
    const ArenaEntry& entry = impl_->layout.entries()[e];
    const at::Tensor& leaf = impl_->leaves[entry.parameter];
    torch::autograd::impl::set_post_acc_grad_hooks(
        leaf,
        std::make_unique<TakeGradient>(
            at::from_blob(gradient.data() + entry.offset, entry.shape, at::kFloat), arrived[e]));
  }
  const std::vector<at::Tensor> inputs = as_tensors(batch.inputs);
  const std::vector<at::Tensor> targets = as_tensors(batch.targets);
  {
    const std::vector<at::Tensor> outputs = impl_->forward(inputs, result.buffers, true);
    impl_->check_once(outputs[0], targets[0]);
    at::Tensor loss = impl_->objective.loss(outputs, targets);
    if (factor != 1.0f) loss = loss * factor;
    result.loss = loss.item<float>();
    loss.backward();
  }
  for (std::size_t e = 0; e < arrived.size(); ++e) {
    const ArenaEntry& entry = impl_->layout.entries()[e];
    float* const place = gradient.data() + entry.offset;
    const std::int64_t next =
        e + 1 < arrived.size() ? impl_->layout.entries()[e + 1].offset : impl_->layout.size();
    if (arrived[e] == 0) std::fill(place, place + entry.count, 0.0f);
    // Padding takes part in the sums and must not hold what an earlier use of the memory left.
    std::fill(place + entry.count, gradient.data() + next, 0.0f);
  }
  return result;
}

std::vector<double> Worker::evaluate(const io::Batch& batch, const BufferValues& buffers) {
  const at::NoGradGuard no_grad;
  BufferValues values = buffers;
  const std::vector<at::Tensor> targets = as_tensors(batch.targets);
  const std::vector<at::Tensor> outputs = impl_->forward(as_tensors(batch.inputs), values, false);
  impl_->check_once(outputs[0], targets[0]);
  return impl_->objective.sums(outputs, targets);
}

}  // namespace hadal::engine
