#include "engine/script_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "engine/random_operators.hpp"
#include "engine/script_code.hpp"
#include "engine/tensor_type.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

namespace jit = torch::jit;

io::Error bad(const std::string& message) { return {io::ErrorKind::checkpoint, message}; }

// The last line of TorchScript's errors is the one that says what is wrong.
std::string last_line(const std::exception& error) {
  const auto* const known = dynamic_cast<const c10::Error*>(&error);
  std::string text = known != nullptr ? known->what_without_backtrace() : error.what();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

jit::Module load(const std::filesystem::path& path, at::Device device) {
  try {
    jit::Module module = jit::load(path.string(), device);
    if (!device.is_cpu()) move_code(module, device);
    return module;
  } catch (const std::exception& error) {
    const std::string what = error.what();
    throw bad(
        fmt::format("{} is no TorchScript archive (torch.jit.save): {}; a state dict goes "
                    "into model.weights as safetensors",
                    path.string(), what.substr(0, what.find('\n'))));
  }
}

// Where a module holds one of its tensors: in the slot of an object, or in a list (recurrent layers
// keep their weights in both).
struct SlotPlace {
  c10::intrusive_ptr<c10::ivalue::Object> owner;
  std::optional<c10::List<at::Tensor>> list;
  std::size_t position = 0;
  std::size_t tensor = 0;  // number in the model's lists

  void set(const at::Tensor& value) const {
    if (list) {
      list->set(position, value);
    } else {
      owner->setSlot(position, value);
    }
  }
};

using Numbers = std::map<const at::TensorImpl*, std::size_t>;

void find_places(const c10::intrusive_ptr<c10::ivalue::Object>& object, const Numbers& numbers,
                 std::vector<SlotPlace>& found) {
  const auto number = [&](const at::Tensor& tensor) {
    return numbers.find(tensor.unsafeGetTensorImpl());
  };
  for (std::size_t slot = 0; slot < object->slots().size(); ++slot) {
    const c10::IValue value = object->getSlot(slot);
    if (value.isObject()) find_places(value.toObject(), numbers, found);
    if (value.isTensor()) {
      const auto known = number(value.toTensor());
      if (known != numbers.end()) found.push_back({object, {}, slot, known->second});
    }
    if (!value.isTensorList()) continue;
    const c10::List<at::Tensor> list = value.toTensorList();
    for (std::size_t i = 0; i < list.size(); ++i) {
      const auto known = number(list.get(i));
      if (known != numbers.end()) found.push_back({object, list, i, known->second});
    }
  }
}

std::vector<at::Tensor> tensors_in(const c10::IValue& value) {
  if (value.isTensor()) return {value.toTensor()};
  std::vector<at::Tensor> found;
  const auto add = [&](const c10::IValue& inner) {
    for (const at::Tensor& tensor : tensors_in(inner)) found.push_back(tensor);
  };
  if (value.isTuple()) {
    for (const c10::IValue& inner : value.toTupleRef().elements()) add(inner);
  } else if (value.isList()) {
    for (const c10::IValue& inner : value.toListRef()) add(inner);
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) add(entry.value());
  }
  return found;
}

class ScriptModel : public Model {
 public:
  ScriptModel(const std::filesystem::path& path, const std::vector<InputSpec>& inputs)
      : name_(path.string()), module_(load(path, at::kCPU)) {
    collect_parameters();
    collect_buffers();
    read_graph();
    check_inputs(inputs);
  }

  void initialise(std::uint64_t, std::span<const std::span<float>> values, BufferValues& buffers,
                  BufferValues& constants) const override {
    for (std::size_t p = 0; p < values.size(); ++p) {
      if (values[p].empty()) continue;
      const at::Tensor from = first_values_[p].contiguous();
      std::memcpy(values[p].data(), from.const_data_ptr(), from.nbytes());
    }
    buffers = buffers_.initial();
    for (std::size_t b = 0; b < buffers_.size(); ++b) {
      const at::Tensor from = first_buffers_[b].contiguous();
      std::memcpy(buffers_.of(buffers, b).data(), from.const_data_ptr(), from.nbytes());
    }
    constants = constants_.initial();
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    std::unique_ptr<Copy> copy = take_copy(inputs.front().device());
    bind(*copy, context);
    // The optimising executor measures first and compiles later: other bits after a restart.
    const jit::GraphOptimizerEnabledGuard plain(false);
    std::vector<at::Tensor> outputs;
    try {
      outputs = tensors_in(copy->module.forward({inputs.begin(), inputs.end()}));
    } catch (const std::exception& error) {
      throw bad(fmt::format("{} failed: {}", name_, last_line(error)));
    }
    const at::NoGradGuard no_grad;
    for (const SlotPlace& place : copy->places) {
      if (place.tensor < parameters_.size() || place.list) continue;
      // Assigned anew instead of changed in place.
      const at::Tensor now = place.owner->getSlot(place.position).toTensor();
      at::Tensor& buffer = context.buffers[place.tensor - parameters_.size()];
      if (!now.is_same(buffer)) buffer.copy_(now);
    }
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(copy));
    return outputs;
  }

  std::string reason_against_training() const override {
    if (parameters_.empty()) {
      return fmt::format(
          "{} has no parameters: it was frozen for inference; save the module "
          "without torch.jit.freeze",
          name_);
    }
    if (traced_for_evaluation_.empty() || !traced_for_training_.empty()) return {};
    return fmt::format(
        "{} was traced in evaluation mode ({}): call model.train() before "
        "torch.jit.trace, or use torch.jit.script",
        name_, traced_for_evaluation_);
  }

  std::string reason_against_evaluation() const override {
    if (traced_for_training_.empty()) return {};
    return fmt::format(
        "{} was traced in training mode ({}), which cannot be turned off; use "
        "torch.jit.script, or better torch.export",
        name_, traced_for_training_);
  }

 private:
  // One for every forward pass that runs at the same time: the tensors in its slots are a worker's.
  struct Copy {
    at::Device device;
    jit::Module module;
    std::vector<SlotPlace> places;  // of parameters, then of buffers; a tied one has several
  };

  void collect_parameters() {
    for (const auto& parameter : module_.named_parameters()) {
      const at::Tensor& value = parameter.value;
      // Loading makes two tensors of a tied one, over the same memory.
      const auto same = [&](const at::Tensor& other) {
        return other.is_alias_of(value) && other.sizes() == value.sizes() &&
               other.data_ptr() == value.data_ptr();
      };
      const auto tied = std::find_if(first_values_.begin(), first_values_.end(), same);
      const auto number = static_cast<std::size_t>(tied - first_values_.begin());
      number_of_[parameter.name] = number;
      if (tied != first_values_.end()) {
        parameters_[number].aliases.push_back(parameter.name);
        continue;
      }
      if (value.scalar_type() != at::kFloat) {
        throw bad(
            fmt::format("{}: the parameter {} is {}; save the module as float32 "
                        "(model.float())",
                        name_, parameter.name, c10::toString(value.scalar_type())));
      }
      ParameterSpec spec{.name = parameter.name, .shape = value.sizes().vec(), .init = {}};
      spec.frozen = !value.requires_grad();
      parameters_.push_back(std::move(spec));
      first_values_.push_back(value.detach());
    }
  }

  void collect_buffers() {
    for (const auto& buffer : module_.named_buffers()) {
      const at::Tensor& value = buffer.value;
      if (!value.defined()) continue;
      const auto dtype = from_aten(value.scalar_type());
      if (!dtype) {
        throw bad(fmt::format("{}: the buffer {} is {}, which is not supported", name_, buffer.name,
                              c10::toString(value.scalar_type())));
      }
      number_of_[buffer.name] = parameters_.size() + buffers_.size();
      buffers_.add({.name = buffer.name, .shape = value.sizes().vec(), .dtype = *dtype});
      first_buffers_.push_back(value.detach());
    }
  }

  // What the code says about modes and random numbers.
  void read_graph() {
    const std::shared_ptr<jit::Graph> graph = module_.get_method("forward").graph()->copy();
    jit::Inline(*graph);
    read_block(*graph->block());
  }

  void read_block(const jit::Block& block) {
    for (const jit::Node* node : block.nodes()) {
      for (const jit::Block* inner : node->blocks()) read_block(*inner);
      const c10::FunctionSchema* schema = node->maybeSchema();
      if (schema == nullptr || !schema->name().starts_with("aten::")) continue;
      const std::string op = schema->name().substr(6);
      if (op == "batch_norm") uses_batch_statistics_ = true;
      const auto handle = c10::Dispatcher::singleton().findSchema(schema->operator_name());
      const bool is_random = handle && handle->hasTag(at::Tag::nondeterministic_seeded);
      if (is_random && !draws_from_worker(op)) {
        throw bad(fmt::format("{}: {} draws random numbers that cannot be repeated here", name_,
                              schema->name()));
      }
      for (const char* argument : {"training", "train"}) {
        const auto index = schema->argumentIndexWithName(argument);
        if (!index) continue;
        const auto flag = jit::toIValue(node->input(static_cast<std::size_t>(*index)));
        if (!flag || !flag->isBool()) continue;
        (flag->toBool() ? traced_for_training_ : traced_for_evaluation_) = op;
      }
    }
  }

  void check_inputs(const std::vector<InputSpec>& inputs) const {
    std::vector<std::string> names;
    std::size_t needed = 0;
    for (const c10::Argument& argument :
         module_.get_method("forward").function().getSchema().arguments()) {
      if (argument.name() == "self") continue;
      names.push_back(argument.name());
      if (!argument.default_value()) ++needed;
    }
    if (inputs.size() >= needed && inputs.size() <= names.size()) return;
    throw io::Error(io::ErrorKind::config,
                    fmt::format("{} takes {} inputs ({}), [data.inputs] has {}", name_,
                                names.size(), fmt::join(names, ", "), inputs.size()));
  }

  std::unique_ptr<Copy> take_copy(at::Device device) const {
    {
      const std::lock_guard lock(mutex_);
      const auto fits = std::find_if(free_.begin(), free_.end(),
                                     [&](const auto& copy) { return copy->device == device; });
      if (fits != free_.end()) {
        std::unique_ptr<Copy> copy = std::move(*fits);
        free_.erase(fits);
        return copy;
      }
    }
    auto copy = std::make_unique<Copy>(
        Copy{device, device.is_cpu() ? module_.deepcopy() : load(name_, device), {}});
    Numbers numbers;
    for (const auto& parameter : copy->module.named_parameters()) {
      numbers[parameter.value.unsafeGetTensorImpl()] = number_of_.at(parameter.name);
    }
    for (const auto& buffer : copy->module.named_buffers()) {
      const auto number = number_of_.find(buffer.name);
      if (number != number_of_.end()) numbers[buffer.value.unsafeGetTensorImpl()] = number->second;
    }
    find_places(copy->module._ivalue(), numbers, copy->places);
    return copy;
  }

  void bind(Copy& copy, ForwardContext& context) const {
    copy.module.train(context.training);
    for (const SlotPlace& place : copy.places) {
      if (place.tensor >= parameters_.size()) {
        place.set(context.buffers[place.tensor - parameters_.size()]);
        continue;
      }
      place.set(context.parameters[place.tensor]);
      if (context.training && !place.list && context.specs[place.tensor].keeps_statistics) {
        jit::Module(place.owner).train(false);
      }
    }
  }

  std::string name_;
  jit::Module module_;
  std::map<std::string, std::size_t> number_of_;  // parameters by name, then buffers
  std::vector<at::Tensor> first_values_;          // of each parameter
  std::vector<at::Tensor> first_buffers_;         // of each buffer
  std::string traced_for_training_;               // an operator whose mode is fixed so, or ""
  std::string traced_for_evaluation_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Copy>> free_;
};

}  // namespace

std::unique_ptr<Model> script_model(const std::filesystem::path& path,
                                    const std::vector<InputSpec>& inputs) {
  return std::make_unique<ScriptModel>(path, inputs);
}

}  // namespace hadal::engine
