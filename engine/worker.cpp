#include "engine/worker.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "engine/autocast.hpp"
#include "engine/random_operators.hpp"
#include "engine/tensor_type.hpp"

namespace hadal::engine {
namespace {

// Where the gradients of a micro-batch go.
struct GradientSink {
  const ArenaLayout& layout;
  std::span<float> gradient;
  std::vector<std::uint8_t>& arrived;
  const Worker::Arrived& tell;

  at::Tensor place(std::size_t e) const {
    const ArenaEntry& entry = layout.entries()[e];
    return at::from_blob(gradient.data() + entry.offset, entry.shape, at::kFloat);
  }

  void taken(std::size_t e) const {
    const auto& entries = layout.entries();
    const std::int64_t end = entries[e].offset + entries[e].count;
    const std::int64_t next = e + 1 < entries.size() ? entries[e + 1].offset : layout.size();
    // Padding takes part in the sums and must not hold what an earlier use of the memory left.
    std::fill(gradient.data() + end, gradient.data() + next, 0.0f);
    arrived[e] = 1;
    if (tell) tell(e);
  }

  // Zeros for those that got none.
  void close() const {
    for (std::size_t e = 0; e < arrived.size(); ++e) {
      if (arrived[e] != 0) continue;
      place(e).zero_();
      taken(e);
      arrived[e] = 0;
    }
  }
};

// Takes a leaf's gradient into the arena as soon as it is complete: no zeroing before, no
// accumulation, and autograd's own memory is free again at once.
class TakeGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  TakeGradient(const GradientSink& sink, std::size_t entry)
      : sink_(sink), entry_(entry), place_(sink.place(entry)) {}

  void operator()(const torch::autograd::Variable& leaf) override {
    at::Tensor& gradient = leaf.mutable_grad();
    place_.copy_(gradient);
    gradient.reset();
    sink_.taken(entry_);
  }

 private:
  const GradientSink& sink_;
  std::size_t entry_;
  at::Tensor place_;
};

// The leaves of the graph of `loss`: whether their only use is one cast to bfloat16, as autocast
// makes it. That need not be made by the forward pass: a leaf that is rounded already gives the
// same bits.
std::map<const at::TensorImpl*, bool> only_cast(const at::Tensor& loss) {
  using torch::autograd::AccumulateGrad;
  using torch::autograd::Node;
  std::map<const at::TensorImpl*, bool> found;
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

// Views; the values keep the memory alive for as long as the tensors are used.
std::vector<at::Tensor> as_tensors(const BufferLayout& layout, BufferValues& values) {
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const BufferSpec& spec = layout.specs()[i];
    tensors.push_back(at::from_blob(layout.of(values, i).data(), spec.shape, to_aten(spec.dtype)));
  }
  return tensors;
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

// Undefined where samples have no weights of their own.
at::Tensor weights_of(const io::Batch& batch) {
  return batch.sample_weights.empty() ? at::Tensor()
                                      : as_tensors(batch.sample_weights).front().flatten();
}

}  // namespace

struct Worker::Impl {
  const Model& model;
  const Objective& objective;
  Weights& weights;
  std::optional<at::ScalarType> autocast;
  bool channels_last;
  std::vector<at::Tensor> parameters;  // in the model's order; those trained are leaves
  std::vector<at::Tensor> rounded;     // by arena entry, where there is a rounded copy
  // Arena entries of which it is not known yet whether the rounded copy will do.
  std::set<std::size_t> unknown;
  std::vector<at::Tensor> constants;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>();
  bool checked = false;

  Impl(const Model& m, const Objective& o, Weights& w, Precision p, Layout layout)
      : model(m),
        objective(o),
        weights(w),
        autocast(p == Precision::bfloat16 ? std::optional(at::kBFloat16) : std::nullopt),
        channels_last(layout == Layout::channels_last ||
                      (layout == Layout::automatic && autocast && m.prefers_channels_last())),
        parameters(m.parameters().size()),
        constants(as_tensors(m.constants(), w.constants)) {
    weights.for_each_parameter([&](const ArenaEntry& entry, std::span<float> values) {
      at::Tensor tensor = at::from_blob(values.data(), entry.shape, at::kFloat);
      tensor.requires_grad_(!model.parameters()[entry.parameter].frozen);
      parameters[entry.parameter] = tensor;
    });
    if (weights.rounded.empty()) return;
    for (const ArenaEntry& entry : weights.layout.entries()) {
      at::Tensor tensor =
          at::from_blob(weights.rounded.data() + entry.offset, entry.shape, at::kBFloat16);
      unknown.insert(rounded.size());
      rounded.push_back(tensor.requires_grad_());
    }
  }

  // The entries whose rounded copy will do from now on, as the graph only casts them; none before
  // the copy is filled.
  std::vector<std::size_t> newly_rounded(const at::Tensor& loss) {
    std::vector<std::size_t> entries;
    if (unknown.empty() || !weights.rounded_is_filled) return entries;
    const std::map<const at::TensorImpl*, bool> casts = only_cast(loss);
    for (auto entry = unknown.begin(); entry != unknown.end();) {
      const auto found = casts.find(leaf_of(*entry).unsafeGetTensorImpl());
      if (found == casts.end()) {
        ++entry;
        continue;
      }
      if (found->second) entries.push_back(*entry);
      entry = unknown.erase(entry);
    }
    return entries;
  }

  at::Tensor& leaf_of(std::size_t entry) {
    return parameters[weights.layout.entries()[entry].parameter];
  }

  std::vector<at::Tensor> forward(std::vector<at::Tensor> inputs, BufferValues& values,
                                  bool training) {
    for (at::Tensor& input : inputs) {
      if (!channels_last || !input.is_floating_point()) continue;
      if (input.dim() == 4) input = input.contiguous(at::MemoryFormat::ChannelsLast);
      if (input.dim() == 5) input = input.contiguous(at::MemoryFormat::ChannelsLast3d);
    }
    std::vector<at::Tensor> buffers = as_tensors(model.buffers(), values);
    const WorkerGenerator draws(generator);
    ForwardContext context{.specs = model.parameters(),
                           .parameters = parameters,
                           .buffers = buffers,
                           .constants = constants,
                           .training = training,
                           .generator = &generator};
    std::vector<at::Tensor> outputs;
    {
      const Autocast region(autocast);
      outputs = model.forward(inputs, context);
    }
    for (at::Tensor& output : outputs) {
      const at::ScalarType type = output.scalar_type();
      if (type == at::kBFloat16 || type == at::kHalf) output = output.to(at::kFloat);
    }
    return outputs;
  }

  void check_once(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets) {
    if (!checked) objective.check_shapes(outputs, targets);
    checked = true;
  }
};

Worker::Worker(const Model& model, const Objective& objective, Weights& weights,
               Precision precision, Layout layout)
    : impl_(std::make_unique<Impl>(model, objective, weights, precision, layout)) {}

Worker::~Worker() = default;

MicroBatchResult Worker::train(const io::Batch& batch, std::span<const float> factors,
                               std::uint64_t seed, std::span<float> gradient,
                               const Arrived& arrived) {
  const std::vector<ArenaEntry>& entries = impl_->weights.layout.entries();
  MicroBatchResult result{.buffers = impl_->weights.buffers,
                          .arrived = std::vector<std::uint8_t>(entries.size(), 0)};
  const GradientSink sink{impl_->weights.layout, gradient, result.arrived, arrived};
  impl_->generator.set_current_seed(seed);
  for (std::size_t e = 0; e < entries.size(); ++e) {
    torch::autograd::impl::set_post_acc_grad_hooks(impl_->leaf_of(e),
                                                   std::make_unique<TakeGradient>(sink, e));
  }
  const std::vector<at::Tensor> inputs = as_tensors(batch.inputs);
  const std::vector<at::Tensor> targets = as_tensors(batch.targets);
  {
    const std::vector<at::Tensor> outputs = impl_->forward(inputs, result.buffers, true);
    impl_->check_once(outputs, targets);
    const at::Tensor loss = impl_->objective.loss(outputs, targets, weights_of(batch), factors);
    result.loss = loss.item<float>();
    const std::vector<std::size_t> newly_rounded = impl_->newly_rounded(loss);
    if (loss.requires_grad()) loss.backward();
    for (const std::size_t e : newly_rounded) impl_->leaf_of(e) = impl_->rounded[e];
  }
  sink.close();
  return result;
}

std::vector<at::Tensor> Worker::predict(const io::Batch& batch) {
  const at::NoGradGuard no_grad;
  BufferValues values = impl_->weights.buffers;
  return impl_->forward(as_tensors(batch.inputs), values, false);
}

Objective::Sums Worker::evaluate(const io::Batch& batch) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> targets = as_tensors(batch.targets);
  const std::vector<at::Tensor> outputs = predict(batch);
  impl_->check_once(outputs, targets);
  return impl_->objective.sums(outputs, targets, weights_of(batch));
}

}  // namespace hadal::engine
