#include "engine/program/exported_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "engine/program/interpreter.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

constexpr const char* kHelper =
    "python hadal_export.py MODULE:FUNCTION --input 32,3,224,224 -o net.pt2";

Graph evaluation_graph(const ProgramFile& file) {
  return file.evaluation() != nullptr
             ? compile_graph(*file.evaluation(), file.name() + " (evaluation)",
                             GraphMode::as_exported)
             : compile_graph(file.program(), file.name(), GraphMode::evaluation);
}

// Names of the user inputs, in order.
std::vector<const GraphInput*> user_inputs(const Graph& graph) {
  std::vector<const GraphInput*> found;
  for (const GraphInput& input : graph.inputs) {
    if (input.kind == GraphInput::Kind::user) found.push_back(&input);
  }
  return found;
}

std::string names_of(const std::vector<const GraphInput*>& inputs) {
  std::vector<std::string> names;
  for (const GraphInput* input : inputs) {
    std::vector<std::string> sizes;
    for (const std::int64_t size : input->sizes) {
      sizes.push_back(size < 0 ? "any" : fmt::format("{}", size));
    }
    names.push_back(fmt::format("{} ({} [{}])", input->name, io::name_of(input->dtype),
                                fmt::join(sizes, ", ")));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// Repeats the first sample until there are `count`.
at::Tensor padded(const at::Tensor& input, std::int64_t count) {
  std::vector<std::int64_t> sizes = input.sizes().vec();
  sizes[0] = count - input.size(0);
  return at::cat({input, input.narrow(0, 0, 1).expand(sizes)});
}

}  // namespace

ExportedModel::ExportedModel(const std::filesystem::path& path,
                             const std::vector<InputSpec>& inputs)
    : file_(path),
      train_(compile_graph(file_.program(), file_.name(), GraphMode::as_exported)),
      evaluate_(evaluation_graph(file_)) {
  collect_parameters();
  collect_buffers();
  train_bindings_ = bind(train_, inputs);
  evaluate_bindings_ = bind(evaluate_, inputs);
  uses_batch_statistics_ = train_.uses_batch_statistics;
  for (const GraphInput* input : user_inputs(train_)) {
    if (input->sizes.empty()) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{}: the input {} is a single number; every input needs samples "
                                  "along its first axis",
                                  file_.name(), input->name));
    }
    if (input->sizes[0] >= 0) batch_ = input->sizes[0];
  }
}

// How torch.nn fills a parameter of this name and shape, for those that are drawn anew: uniform(-b,
// b), b = 1 / sqrt(fan in), for weights of layers and the biases beside them; ones and zeros for
// normalisation.
Init ExportedModel::usual_init(const std::string& name) const {
  const bool is_bias = name.ends_with("bias");
  const Payload* weight =
      is_bias ? file_.weight(name.substr(0, name.size() - 4) + "weight") : file_.weight(name);
  if (weight == nullptr || weight->shape.size() < 2) {
    return {Init::Kind::constant, is_bias ? 0.0 : 1.0};
  }
  const std::int64_t fan_in = std::max<std::int64_t>(
      1, io::element_count(weight->shape) / std::max<std::int64_t>(1, weight->shape.front()));
  return {Init::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(fan_in))};
}

// Parameters in order of first use; tied ones once, under the name that the graph uses.
void ExportedModel::collect_parameters() {
  std::map<int, const GraphInput*> by_slot;
  for (const GraphInput& input : train_.inputs) {
    if (input.kind == GraphInput::Kind::parameter) by_slot[input.slot] = &input;
  }
  std::vector<const Payload*> taken;
  const auto take = [&](const std::string& name, bool used) {
    const Payload* payload = file_.weight(name);
    if (payload == nullptr) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} holds no weight {}", file_.name(), name));
    }
    if (payload->dtype != io::DType::f32) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{}: the parameter {} is {}; export the model as float32 "
                                  "(model.float())",
                                  file_.name(), name, io::name_of(payload->dtype)));
    }
    const auto same = [&](const Payload* other) { return other->is_tied_to(*payload); };
    if (std::any_of(taken.begin(), taken.end(), same)) return;
    taken.push_back(payload);
    ParameterSpec spec{.name = name, .shape = payload->shape, .init = usual_init(name)};
    spec.frozen = !used || !payload->requires_grad;
    for (const Payload& other : file_.weights()) {
      if (other.is_tied_to(*payload) && other.name != name) spec.aliases.push_back(other.name);
    }
    parameters_.push_back(std::move(spec));
  };
  for (const Instruction& instruction : train_.code) {
    for (const Operand& operand : instruction.operands) {
      std::vector<int> slots = operand.slots;
      slots.push_back(operand.slot);
      for (const int slot : slots) {
        const auto found = by_slot.find(slot);
        if (found != by_slot.end()) take(found->second->name, true);
      }
    }
  }
  for (const GraphInput& input : train_.inputs) {
    if (input.kind == GraphInput::Kind::parameter) take(input.name, false);
  }
}

void ExportedModel::collect_buffers() {
  std::set<std::string> changing(train_.mutated.begin(), train_.mutated.end());
  changing.insert(evaluate_.mutated.begin(), evaluate_.mutated.end());
  std::set<std::string> seen;
  for (const Graph* graph : {&train_, &evaluate_}) {
    for (const GraphInput& input : graph->inputs) {
      const bool buffer = input.kind == GraphInput::Kind::buffer;
      if ((!buffer && input.kind != GraphInput::Kind::constant) ||
          !seen.insert(input.name).second) {
        continue;
      }
      const Payload* payload = file_.weight(input.name);
      if (payload == nullptr) payload = file_.constant(input.name);
      if (payload == nullptr) {
        throw io::Error(io::ErrorKind::checkpoint,
                        fmt::format("{} holds no values of {}", file_.name(), input.name));
      }
      BufferSpec spec{.name = input.name,
                      .shape = payload->shape,
                      .dtype = payload->dtype,
                      .persistent = buffer && input.persistent};
      (changing.contains(input.name) ? buffers_ : constants_).add(std::move(spec));
    }
  }
}

std::size_t ExportedModel::input_index(const Graph& graph, const GraphInput& wanted,
                                       const std::vector<InputSpec>& inputs) const {
  const auto all = user_inputs(graph);
  const auto fail = [&](const std::string& why) {
    return io::Error(io::ErrorKind::config,
                     fmt::format("{} takes {}; {}", file_.name(), names_of(all), why));
  };
  std::size_t index = inputs.size();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].name == wanted.name) index = i;
  }
  if (index == inputs.size()) {
    if (inputs.size() != all.size()) {
      std::vector<std::string> names;
      for (const InputSpec& input : inputs) names.push_back(input.name);
      throw fail(fmt::format("[data.inputs] has {}: name one for each", fmt::join(names, ", ")));
    }
    index = static_cast<std::size_t>(std::find(all.begin(), all.end(), &wanted) - all.begin());
  }
  const InputSpec& given = inputs[index];
  if (given.dtype != wanted.dtype) {
    throw fail(
        fmt::format("set data.inputs.{}.dtype = \"{}\"", given.name, io::name_of(wanted.dtype)));
  }
  bool fits = given.shape.size() + 1 == wanted.sizes.size();
  for (std::size_t d = 0; fits && d < given.shape.size(); ++d) {
    fits = wanted.sizes[d + 1] < 0 || wanted.sizes[d + 1] == given.shape[d];
  }
  if (!fits) {
    throw fail(
        fmt::format("a sample of {} has the shape {}", given.name, io::to_string(given.shape)));
  }
  return index;
}

std::vector<ExportedModel::Binding> ExportedModel::bind(
    const Graph& graph, const std::vector<InputSpec>& inputs) const {
  const auto number = [](const BufferLayout& layout, const std::string& name) {
    const auto& specs = layout.specs();
    const auto it = std::find_if(specs.begin(), specs.end(),
                                 [&](const BufferSpec& spec) { return spec.name == name; });
    return static_cast<std::size_t>(it - specs.begin());
  };
  std::vector<Binding> bindings;
  for (const GraphInput& input : graph.inputs) {
    Binding binding{.slot = input.slot};
    if (input.kind == GraphInput::Kind::user) {
      binding.index = input_index(graph, input, inputs);
    } else if (input.kind == GraphInput::Kind::parameter) {
      binding.source = Binding::Source::parameter;
      const auto found =
          std::find_if(parameters_.begin(), parameters_.end(), [&](const ParameterSpec& spec) {
            return spec.name == input.name || std::find(spec.aliases.begin(), spec.aliases.end(),
                                                        input.name) != spec.aliases.end();
          });
      if (found == parameters_.end()) {
        throw io::Error(io::ErrorKind::checkpoint,
                        fmt::format("{}: the evaluation program has a parameter {} that the "
                                    "training program lacks",
                                    file_.name(), input.name));
      }
      binding.index = static_cast<std::size_t>(found - parameters_.begin());
    } else {
      const bool changes = number(buffers_, input.name) < buffers_.size();
      binding.source = changes ? Binding::Source::buffer : Binding::Source::constant;
      binding.index = number(changes ? buffers_ : constants_, input.name);
    }
    bindings.push_back(binding);
  }
  return bindings;
}

void ExportedModel::initialise(std::uint64_t, std::span<const std::span<float>> values,
                               BufferValues& buffers, BufferValues& constants) const {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i].empty()) continue;
    const std::vector<std::byte> bytes = file_.read(*file_.weight(parameters_[i].name));
    std::memcpy(values[i].data(), bytes.data(), bytes.size());
  }
  const auto fill = [&](const BufferLayout& layout, BufferValues& held) {
    held = layout.initial();
    for (std::size_t i = 0; i < layout.size(); ++i) {
      const std::string& name = layout.specs()[i].name;
      const Payload* payload = file_.weight(name);
      const std::vector<std::byte> bytes =
          file_.read(payload != nullptr ? *payload : *file_.constant(name));
      if (!bytes.empty()) std::memcpy(layout.of(held, i).data(), bytes.data(), bytes.size());
    }
  };
  fill(buffers_, buffers);
  fill(constants_, constants);
}

std::vector<at::Tensor> ExportedModel::forward(std::span<const at::Tensor> inputs,
                                               ForwardContext& context) const {
  const Graph& graph = context.training ? train_ : evaluate_;
  const std::int64_t count = inputs.front().size(0);
  const bool pads = batch_ && count < *batch_;
  std::vector<c10::IValue> slots(static_cast<std::size_t>(graph.slot_count));
  for (const Binding& binding : context.training ? train_bindings_ : evaluate_bindings_) {
    c10::IValue& slot = slots[static_cast<std::size_t>(binding.slot)];
    switch (binding.source) {
      case Binding::Source::parameter:
        slot = context.parameters[binding.index];
        break;
      case Binding::Source::buffer:
        slot = context.buffers[binding.index];
        break;
      case Binding::Source::constant:
        slot = context.constants[binding.index];
        break;
      case Binding::Source::user:
        slot = pads ? padded(inputs[binding.index], *batch_) : inputs[binding.index];
        break;
    }
  }
  const std::vector<at::Tensor> values =
      run_graph(graph, std::move(slots), *context.generator, inputs.front().device());
  std::vector<at::Tensor> outputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string& buffer = graph.outputs[i].mutated_buffer;
    if (!buffer.empty()) {
      const at::NoGradGuard no_grad;
      for (std::size_t b = 0; b < buffers_.size(); ++b) {
        if (buffers_.specs()[b].name == buffer) context.buffers[b].copy_(values[i]);
      }
    } else if (pads && values[i].dim() > 0 && values[i].size(0) == *batch_) {
      outputs.push_back(values[i].narrow(0, 0, count));
    } else {
      outputs.push_back(values[i]);
    }
  }
  return outputs;
}

void ExportedModel::keep_statistics(std::size_t parameter) {
  Model::keep_statistics(parameter);
  for (const Binding& binding : train_bindings_) {
    if (binding.source == Binding::Source::parameter && binding.index == parameter) {
      keep_batch_norm(train_, binding.slot);
    }
  }
}

std::string ExportedModel::reason_against_training() const {
  const bool from_helper = file_.notes().is_object() && file_.notes().value("mode", "") == "train";
  if (from_helper || train_.eval_flags == 0 || train_.train_flags > 0) return {};
  return fmt::format(
      "{} was exported in evaluation mode: its dropout and batch norm do not train; "
      "call model.train() before torch.export.export, or use: {}",
      file_.name(), kHelper);
}

std::string ExportedModel::reason_against_evaluation() const {
  if (file_.evaluation() != nullptr || evaluate_.unflagged_random.empty()) return {};
  return fmt::format(
      "{} draws random numbers that cannot be turned off for evaluation: {}; export "
      "it with its evaluation mode beside it: {}",
      file_.name(), evaluate_.unflagged_random, kHelper);
}

io::Shape program_output(const std::filesystem::path& path, std::size_t number) {
  const ProgramFile file(path);
  const Graph graph = compile_graph(file.program(), file.name(), GraphMode::as_exported);
  std::size_t at = 0;
  for (const GraphOutput& output : graph.outputs) {
    if (!output.mutated_buffer.empty() || at++ != number) continue;
    return output.sizes.empty() ? io::Shape{}
                                : io::Shape(output.sizes.begin() + 1, output.sizes.end());
  }
  return {};
}

}  // namespace hadal::engine
