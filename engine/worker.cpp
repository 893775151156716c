#include "engine/worker.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "engine/autocast.hpp"
#include "engine/batch_graphs.hpp"
#include "engine/batch_tensors.hpp"
#include "engine/convolution_gradient.hpp"
#include "engine/leaf_casts.hpp"
#include "engine/random_operators.hpp"
#include "engine/tensor_type.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// Views; the memory at `values` must stay for as long as the tensors are used.
std::vector<at::Tensor> as_tensors(const BufferLayout& layout, std::byte* values,
                                   at::Device device) {
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; i < layout.size(); ++i) {
    const BufferSpec& spec = layout.specs()[i];
    tensors.push_back(
        values_at(values + layout.offset(i), spec.shape, to_aten(spec.dtype), device));
  }
  return tensors;
}

}  // namespace

// What a device sends back of a micro-batch: its loss, then its buffers.
struct MicroBatchResult::Pending {
  at::Tensor values;
  Device::Mark mark;
};

namespace {

// Throws what libtorch has thrown on a device, if it is known, in words for people.
void explain(const c10::Error& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) {
    throw io::Error(io::ErrorKind::launch,
                    "the GPU's memory is full: take a smaller train.micro_batch, or "
                    "train.precision = \"bfloat16\"");
  }
  const std::string what = error.what_without_backtrace();
  const std::size_t end = what.find(" does not have a deterministic implementation");
  if (end == std::string::npos) return;
  throw io::Error(io::ErrorKind::config,
                  fmt::format("the model needs {}, which on GPUs has no form that gives the same "
                              "bits each time; set run.deterministic = false, or train on CPUs",
                              what.substr(0, end)));
}

std::optional<at::ScalarType> autocast_type(Precision precision) {
  switch (precision) {
    case Precision::float32:
      break;
    case Precision::bfloat16:
      return at::kBFloat16;
    case Precision::float16:
      return at::kHalf;
  }
  return std::nullopt;
}

// The body of a worker's call, where it computes.
template <class Body>
auto on_device(const Device* device, Body body) {
  if (device == nullptr) return body();
  try {
    return body();
  } catch (const c10::Error& error) {
    explain(error);
    throw;
  }
}

}  // namespace

struct Worker::Impl {
  const Model& model;
  const Objective& objective;
  Weights& weights;
  Device* device;  // null: the host
  at::Device tensors;
  std::optional<at::ScalarType> autocast;
  bool channels_last;
  std::vector<at::Tensor> parameters;  // in the model's order; those trained are leaves
  std::vector<at::Tensor> rounded;     // by arena entry, where there is a rounded copy
  // Arena entries of which it is not known yet whether the rounded copy will do.
  std::set<std::size_t> unknown;
  std::vector<at::Tensor> constants;
  at::Generator generator;
  bool checked = false;
  std::vector<at::Tensor*> leaves;  // by arena entry
  std::unique_ptr<GradientSink> sink;
  std::unique_ptr<BatchGraphs> graphs;  // null: not recorded, or not yet
  bool leaves_changed = false;          // by the last pass
  WorkerOptions options;

  Impl(const Model& m, const Objective& o, Weights& w, const ParameterPlace& place,
       const WorkerOptions& how)
      : model(m),
        objective(o),
        weights(w),
        device(place.device),
        tensors(device == nullptr ? at::Device(at::kCPU) : device->tensors()),
        autocast(autocast_type(how.precision)),
        channels_last(how.layout == Layout::channels_last ||
                      (how.layout == Layout::automatic && autocast && m.prefers_channels_last())),
        parameters(m.parameters().size()),
        constants(as_tensors(m.constants(), place.constants, tensors)),
        generator(device == nullptr ? at::make_generator<at::CPUGeneratorImpl>()
                                    : device->generator()),
        options(how) {
    const auto add = [&](const ArenaLayout& arena, float* values) {
      for (const ArenaEntry& entry : arena.entries()) {
        at::Tensor tensor = values_at(values + entry.offset, entry.shape, at::kFloat, tensors);
        tensor.requires_grad_(!model.parameters()[entry.parameter].frozen);
        parameters[entry.parameter] = tensor;
      }
    };
    add(weights.layout, place.trained);
    add(weights.frozen_layout, place.frozen);
    for (std::size_t e = 0; e < weights.layout.entries().size(); ++e) leaves.push_back(&leaf_of(e));
    if (place.rounded == nullptr) return;
    for (const ArenaEntry& entry : weights.layout.entries()) {
      at::Tensor tensor =
          values_at(place.rounded + entry.offset, entry.shape, at::kBFloat16, tensors);
      unknown.insert(rounded.size());
      rounded.push_back(tensor.requires_grad_());
    }
  }

  // What libtorch is asked for while it lives goes to the worker's place.
  std::unique_ptr<Device::Region> enter() const {
    return device == nullptr ? nullptr : device->enter(Device::Lane::compute);
  }

  // The buffers of the weights, to be changed by one micro-batch: in `values`, or of a device in
  // memory that the result holds.
  at::Tensor buffers_on_device() const {
    const at::Tensor host = staging(std::ssize(weights.buffers.bytes), *device);
    host.copy_(bytes_at(weights.buffers.bytes));
    return at::empty(host.sizes(), host.options().pinned_memory(false).device(tensors))
        .copy_(host, /*non_blocking=*/true);
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

  // `values` are the buffers' bytes, in the place where the worker computes.
  std::vector<at::Tensor> forward(std::vector<at::Tensor> inputs, std::byte* values,
                                  bool training) {
    for (at::Tensor& input : inputs) {
      if (!channels_last || !input.is_floating_point()) continue;
      if (input.dim() == 4) input = input.contiguous(at::MemoryFormat::ChannelsLast);
      if (input.dim() == 5) input = input.contiguous(at::MemoryFormat::ChannelsLast3d);
    }
    std::vector<at::Tensor> buffers = as_tensors(model.buffers(), values, tensors);
    // A GPU's operators draw from its one generator by themselves.
    std::optional<WorkerGenerator> draws;
    if (!tensors.is_cuda()) draws.emplace(generator);
    ForwardContext context{.specs = model.parameters(),
                           .parameters = parameters,
                           .buffers = buffers,
                           .constants = constants,
                           .training = training,
                           .generator = &generator};
    std::vector<at::Tensor> outputs;
    {
      const Autocast region(tensors.type(), autocast);
      outputs = model.forward(inputs, context);
    }
    for (at::Tensor& output : outputs) {
      const at::ScalarType type = output.scalar_type();
      if (type == at::kBFloat16 || type == at::kHalf) output = output.to(at::kFloat);
    }
    return outputs;
  }

  std::vector<at::Tensor> apply(const std::vector<at::Tensor>& inputs) {
    if (device == nullptr) {
      BufferValues values = weights.buffers;
      return forward(inputs, values.bytes.data(), false);
    }
    const at::Tensor values = buffers_on_device();
    return forward(inputs, static_cast<std::byte*>(values.data_ptr()), false);
  }

  // Starts loss and buffers of a micro-batch on their way to the host.
  std::shared_ptr<MicroBatchResult::Pending> sent_back(const at::Tensor& loss,
                                                       const at::Tensor& buffers) const {
    constexpr std::int64_t kLossBytes = sizeof(float);
    const auto pending = std::make_shared<MicroBatchResult::Pending>();
    pending->values = staging(kLossBytes + buffers.numel(), *device);
    pending->values.narrow(0, 0, kLossBytes)
        .view(at::kFloat)
        .copy_(loss.reshape({1}), /*non_blocking=*/true);
    pending->values.narrow(0, kLossBytes, buffers.numel()).copy_(buffers, /*non_blocking=*/true);
    pending->mark = device->mark(Device::Lane::compute);
    return pending;
  }

  // Tensors where the worker computes; none for a 0.
  std::vector<at::Tensor> scalars(std::span<const float> values) const {
    at::Tensor all = at::empty({std::ssize(values)}, at::kFloat);
    std::copy(values.begin(), values.end(), all.mutable_data_ptr<float>());
    if (device != nullptr) {
      const at::Tensor host = staging(std::ssize(values) * std::int64_t{sizeof(float)}, *device);
      host.view(at::kFloat).copy_(all);
      all = at::empty(all.sizes(), all.options().device(tensors))
                .copy_(host.view(at::kFloat), /*non_blocking=*/true);
    }
    std::vector<at::Tensor> each(values.size());
    for (std::size_t k = 0; k < values.size(); ++k) {
      if (values[k] != 0) each[k] = all[static_cast<std::int64_t>(k)];
    }
    return each;
  }

  // Forward and backward: the loss. Changes the buffers.
  at::Tensor pass(const PassInputs& inputs, GradientSink& to, Arrived arrived);
  MicroBatchResult train(const io::Batch& batch, std::span<const float> factors, std::uint64_t seed,
                         std::span<float> gradient, const Arrived& arrived);

  void check_once(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets) {
    if (!checked) objective.check_shapes(outputs, targets);
    checked = true;
  }
};

Worker::Worker(const Model& model, const Objective& objective, Weights& weights,
               const ParameterPlace& place, const WorkerOptions& options)
    : impl_(std::make_unique<Impl>(model, objective, weights, place, options)) {
  repair_convolution_gradient();
}

Worker::~Worker() = default;

MicroBatchResult Worker::train(const io::Batch& batch, std::span<const float> factors,
                               std::uint64_t seed, std::span<float> gradient,
                               const Arrived& arrived) {
  return on_device(impl_->device,
                   [&] { return impl_->train(batch, factors, seed, gradient, arrived); });
}

at::Tensor Worker::Impl::pass(const PassInputs& inputs, GradientSink& to, Arrived arrived) {
  to.open(leaves, std::move(arrived));
  at::Tensor loss;
  {
    const std::vector<at::Tensor> outputs =
        forward(inputs.fields.inputs, static_cast<std::byte*>(inputs.buffers.data_ptr()), true);
    check_once(outputs, inputs.fields.targets);
    loss = objective.loss(outputs, inputs.fields.targets, inputs.fields.sample_weights,
                          inputs.factors);
    const std::vector<std::size_t> cast_only = newly_rounded(loss);
    if (loss.requires_grad()) loss.backward();
    for (const std::size_t e : cast_only) leaf_of(e) = rounded[e];
    leaves_changed = leaves_changed || !cast_only.empty();
  }
  to.close();
  return loss.detach();
}

MicroBatchResult Worker::Impl::train(const io::Batch& batch, std::span<const float> factors,
                                     std::uint64_t seed, std::span<float> gradient,
                                     const Arrived& arrived) {
  const auto region = enter();
  MicroBatchResult result{.buffers = weights.buffers, .arrived = {}, .pending = nullptr};
  PassInputs inputs{
      .fields = batch_tensors(batch, device),
      .factors = scalars(factors),
      .buffers = device != nullptr ? buffers_on_device() : bytes_at(result.buffers.bytes)};
  const auto begin = [&] { generator.set_current_seed(seed); };
  if (device == nullptr) {
    sink = std::make_unique<GradientSink>(weights.layout, gradient, tensors);
    begin();
    result.loss = pass(inputs, *sink, arrived).item<float>();
    result.arrived = sink->arrived();
    return result;
  }
  BatchGraphs::Result done;
  if (options.graphs) {
    if (!graphs) {
      graphs = std::make_unique<BatchGraphs>(
          weights.layout, tensors, options.repeats,
          [this](const PassInputs& in, GradientSink& to, Arrived tell) {
            return pass(in, to, std::move(tell));
          },
          [this](const std::function<void()>& body, std::string& trouble) {
            return device->record(body, trouble);
          });
    }
    done = graphs->run(std::move(inputs), begin, gradient, arrived);
    // What is recorded reads the old leaves.
    if (std::exchange(leaves_changed, false)) graphs.reset();
  } else {
    sink = std::make_unique<GradientSink>(weights.layout, gradient, tensors);
    begin();
    done = {pass(inputs, *sink, arrived), inputs.buffers, sink->arrived()};
  }
  result.arrived = std::move(done.arrived);
  result.told = done.told;
  result.pending = sent_back(done.loss, done.buffers);
  return result;
}

void Worker::collect(Device& device, MicroBatchResult& result) {
  if (!result.pending) return;
  device.wait(result.pending->mark);
  const auto* const bytes = static_cast<const std::byte*>(result.pending->values.const_data_ptr());
  std::memcpy(&result.loss, bytes, sizeof result.loss);
  std::copy_n(bytes + sizeof result.loss, result.buffers.bytes.size(),
              result.buffers.bytes.begin());
  result.pending.reset();
}

std::vector<at::Tensor> Worker::predict(const io::Batch& batch, const Present& present) {
  return on_device(impl_->device, [&] {
    const auto region = impl_->enter();
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> outputs = impl_->apply(batch_tensors(batch, impl_->device).inputs);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      if (present) outputs[o] = present(o, outputs[o]);
      outputs[o] = outputs[o].to(at::kCPU);
    }
    return outputs;
  });
}

Objective::Sums Worker::evaluate(const io::Batch& batch) {
  return on_device(impl_->device, [&] {
    const auto region = impl_->enter();
    const at::NoGradGuard no_grad;
    const BatchTensors fields = batch_tensors(batch, impl_->device);
    const std::vector<at::Tensor> outputs = impl_->apply(fields.inputs);
    impl_->check_once(outputs, fields.targets);
    return impl_->objective.sums(outputs, fields.targets, fields.sample_weights);
  });
}

}  // namespace hadal::engine
