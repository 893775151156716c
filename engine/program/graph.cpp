#include "engine/program/graph.hpp"

#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/program/arguments.hpp"
#include "engine/program/program_file.hpp"
#include "engine/random_operators.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

using nlohmann::json;

const std::map<std::string, SymbolicOp>& symbolic_ops() {
  using enum SymbolicOp;
  static const std::map<std::string, SymbolicOp> table{{"_operator.add", add},
                                                       {"_operator.sub", sub},
                                                       {"_operator.mul", mul},
                                                       {"_operator.floordiv", floordiv},
                                                       {"_operator.mod", mod},
                                                       {"_operator.truediv", truediv},
                                                       {"_operator.pow", pow},
                                                       {"_operator.neg", neg},
                                                       {"_operator.eq", eq},
                                                       {"_operator.ne", ne},
                                                       {"_operator.lt", lt},
                                                       {"_operator.le", le},
                                                       {"_operator.gt", gt},
                                                       {"_operator.ge", ge},
                                                       {"_operator.and_", logical_and},
                                                       {"_operator.or_", logical_or},
                                                       {"torch.sym_not", logical_not},
                                                       {"torch.sym_min", minimum},
                                                       {"torch.sym_max", maximum},
                                                       {"torch.sym_float", to_float},
                                                       {"math.trunc", to_int},
                                                       {"torch.sym_int", to_int}};
  return table;
}

// Checks that only guard shapes: the export made them true for every allowed shape.
bool is_guard(const std::string& name) {
  return name == "_assert_scalar" || name == "_assert_tensor_metadata" ||
         name == "sym_constrain_range" || name == "sym_constrain_range_for_size" ||
         name == "_assert_async";
}

// Operators that change running statistics without their schema saying so.
bool updates_statistics(const std::string& name) {
  return name == "batch_norm" || name == "native_batch_norm" || name == "instance_norm" ||
         name == "_batch_norm_impl_index" || name == "cudnn_batch_norm";
}

// Without the namespace.
std::string name_of(const c10::OperatorHandle& op) {
  const std::string& name = op.schema().name();
  return name.substr(name.find("::") + 2);
}

// The line of the user's own Python: the last frame outside of PyTorch.
std::string source_line(const json& node) {
  const std::string trace = node.contains("metadata") && node["metadata"].is_object()
                                ? node["metadata"].value("stack_trace", "")
                                : "";
  std::string best, any;
  std::size_t at = 0;
  while ((at = trace.find("File \"", at)) != std::string::npos) {
    const std::size_t end = trace.find("  File \"", at + 1);
    std::string frame = trace.substr(at, end == std::string::npos ? end : end - at);
    std::replace(frame.begin(), frame.end(), '\n', ' ');
    any = frame;
    if (frame.find("/torch/") == std::string::npos) best = frame;
    ++at;
  }
  std::string line = best.empty() ? any : best;
  while (line.ends_with(' ')) line.pop_back();
  const std::size_t gap = line.find("     ");
  if (gap != std::string::npos)
    line = fmt::format("{}: {}", line.substr(0, gap), line.substr(gap + 5));
  return line.substr(0, 200);
}

std::vector<std::int64_t> sizes_of(const json& graph, const std::string& name) {
  std::vector<std::int64_t> sizes;
  for (const json& size : graph.at("tensor_values").at(name).at("sizes")) {
    sizes.push_back(size.contains("as_int") ? size.at("as_int").get<std::int64_t>() : -1);
  }
  return sizes;
}

class Compiler {
 public:
  Compiler(const json& program, std::string file, GraphMode mode)
      : program_(program), file_(std::move(file)), mode_(mode) {}

  Graph compile() {
    const json& graph = program_.at("graph_module").at("graph");
    const json& signature = program_.at("graph_module").at("signature");
    take_inputs(graph, signature);
    take_nodes(graph, names_);
    take_outputs(graph, signature);
    if (!faults_.empty()) {
      constexpr std::size_t kShown = 8;
      const std::size_t count = faults_.size();
      if (count > kShown) {
        faults_.resize(kShown);
        faults_.push_back(fmt::format("… and {} more", count - kShown));
      }
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} cannot be run:\n  {}", file_, fmt::join(faults_, "\n  ")));
    }
    graph_.mutated.assign(mutated_.begin(), mutated_.end());
    mark_last_uses();
    return std::move(graph_);
  }

 private:
  int new_slot(int root = -1) {
    roots_.push_back(root);
    return graph_.slot_count++;
  }

  void take_inputs(const json& graph, const json& signature) {
    using Kind = GraphInput::Kind;
    for (const json& spec : signature.at("input_specs")) {
      const std::string kind = spec.begin().key();
      const json& body = spec.begin().value();
      if (kind == "constant_input") continue;
      if (kind == "token" || kind == "custom_obj") {
        faults_.push_back(fmt::format("its input is a {}, which is not supported", kind));
        continue;
      }
      const json& argument = body.at("arg");
      const json& tensor =
          kind == "user_input"
              ? (argument.contains("as_tensor") ? argument.at("as_tensor") : json())
              : argument;
      if (!tensor.is_object()) {
        if (!argument.contains("as_none")) {
          faults_.push_back("a forward argument is no tensor; fix it to a value before the export");
        }
        continue;
      }
      GraphInput input{.name = tensor.at("name").get<std::string>()};
      const std::string value_name = input.name;
      if (kind == "parameter") {
        input.kind = Kind::parameter;
        input.name = body.at("parameter_name").get<std::string>();
      } else if (kind == "buffer") {
        input.kind = Kind::buffer;
        input.name = body.at("buffer_name").get<std::string>();
        input.persistent = body.at("persistent").get<bool>();
      } else if (kind == "tensor_constant") {
        input.kind = Kind::constant;
        input.name = body.at("tensor_constant_name").get<std::string>();
      } else {
        input.sizes = sizes_of(graph, value_name);
        const auto dtype = dtype_of_export(
            graph.at("tensor_values").at(value_name).at("dtype").get<std::int64_t>());
        if (!dtype) faults_.push_back(fmt::format("the input {} is of no plain type", input.name));
        input.dtype = dtype.value_or(io::DType::f32);
      }
      input.slot = new_slot(static_cast<int>(graph_.inputs.size()));
      names_[value_name] = input.slot;
      graph_.inputs.push_back(std::move(input));
    }
  }

  void take_outputs(const json& graph, const json& signature) {
    for (const json& spec : signature.at("output_specs")) {
      const std::string kind = spec.begin().key();
      const json& body = spec.begin().value();
      if (kind == "user_input_mutation") continue;
      const bool plain = kind == "user_output" || kind == "loss_output";
      if (!plain && kind != "buffer_mutation") {
        faults_.push_back(fmt::format("its output is a {}, which is not supported", kind));
        continue;
      }
      const json& argument = body.at("arg");
      const json& tensor =
          kind == "user_output"
              ? (argument.contains("as_tensor") ? argument.at("as_tensor") : json())
              : argument;
      if (!tensor.is_object()) continue;  // None, or a number
      GraphOutput output{.name = tensor.at("name").get<std::string>()};
      output.slot = names_.at(output.name);
      if (plain) {
        output.sizes = sizes_of(graph, output.name);
      } else {
        output.mutated_buffer = body.at("buffer_name").get<std::string>();
        mutated_.insert(output.mutated_buffer);
      }
      graph_.outputs.push_back(std::move(output));
    }
  }

  void take_nodes(const json& graph, std::map<std::string, int>& names) {
    for (const json& node : graph.at("nodes")) {
      const std::string target = node.at("target").get<std::string>();
      const std::string line = source_line(node);
      where_ = line.empty() ? target : fmt::format("{} ({})", target, line);
      if (const auto symbolic = symbolic_ops().find(target); symbolic != symbolic_ops().end()) {
        take_symbolic(node, symbolic->second, names);
      } else if (target.starts_with("torch.ops.higher_order.")) {
        take_wrapped(node, target, names);
      } else if (target.starts_with("torch.ops.")) {
        take_call(node, target.substr(std::string("torch.ops.").size()), names);
      } else {
        faults_.push_back(fmt::format("{} is not supported", where_));
        define_results(node, names, nullptr);
      }
    }
  }

  void define(const std::string& name, int root, std::map<std::string, int>& names, int& slot) {
    slot = names[name] = new_slot(root);
  }

  // Gives every result its slot. `root` of a result: the input it may be a view of.
  void define_results(const json& node, std::map<std::string, int>& names, Instruction* instruction,
                      int root = -1) {
    for (const json& output : node.at("outputs")) {
      Instruction::Result result;
      const std::string kind = output.begin().key();
      const json& body = output.begin().value();
      if (kind == "as_tensors") {
        result.is_list = true;
        for (const json& item : body) {
          int slot = -1;
          define(item.at("name").get<std::string>(), root, names, slot);
          result.list.push_back(slot);
        }
      } else if (kind == "as_tensor") {
        define(body.at("name").get<std::string>(), root, names, result.slot);
      } else if (kind == "as_optional_tensor" && body.contains("as_tensor")) {
        define(body.at("as_tensor").at("name").get<std::string>(), root, names, result.slot);
      } else if (body.is_object() && body.contains("as_name")) {
        define(body.at("as_name").get<std::string>(), -1, names, result.slot);
      }
      if (instruction != nullptr) instruction->results.push_back(std::move(result));
    }
  }

  void take_symbolic(const json& node, SymbolicOp op, std::map<std::string, int>& names) {
    Instruction instruction{.kind = Instruction::Kind::symbolic, .symbolic = op, .where = where_};
    for (const json& input : node.at("inputs")) {
      instruction.operands.push_back(number_operand(input.at("arg"), names));
    }
    define_results(node, names, &instruction);
    graph_.code.push_back(std::move(instruction));
  }

  // A region under another grad or autocast mode: its graph is put in place, between two switches.
  void take_wrapped(const json& node, const std::string& target,
                    std::map<std::string, int>& names) {
    const json& inputs = node.at("inputs");
    Instruction enter{.where = where_};
    std::size_t at = 0;
    if (target == "torch.ops.higher_order.wrap_with_set_grad_enabled") {
      enter.kind = Instruction::Kind::set_grad;
      enter.enabled = inputs.at(at++).at("arg").at("as_bool").get<bool>();
    } else if (target == "torch.ops.higher_order.wrap_with_autocast") {
      enter.kind = Instruction::Kind::autocast;
      enter.device_type = inputs.at(at++).at("arg").at("as_string").get<std::string>();
      const json& dtype = inputs.at(at++).at("arg");
      if (dtype.contains("as_scalar_type")) {
        enter.autocast_dtype =
            scalar_type_of_export(dtype.at("as_scalar_type").get<std::int64_t>());
      }
      enter.enabled = inputs.at(at++).at("arg").at("as_bool").get<bool>();
      ++at;  // whether casts are cached: here they never are
    } else {
      faults_.push_back(
          fmt::format("{} is control flow, which is not supported; write it with "
                      "torch.where or fixed loops",
                      where_));
      define_results(node, names, nullptr);
      return;
    }
    const json& inner = inputs.at(at++).at("arg").at("as_graph").at("graph");
    std::map<std::string, int> inner_names;
    for (const json& input : inner.at("inputs")) {
      const json& argument = inputs.at(at++).at("arg");
      inner_names[input.at("as_tensor").at("name").get<std::string>()] =
          names.at(argument.at("as_tensor").at("name").get<std::string>());
    }
    graph_.code.push_back(std::move(enter));
    take_nodes(inner, inner_names);
    graph_.code.push_back({.kind = Instruction::Kind::leave});
    std::size_t result = 0;
    const auto bind = [&](const std::string& name) {
      names[name] = inner_names.at(
          inner.at("outputs").at(result++).at("as_tensor").at("name").get<std::string>());
    };
    for (const json& output : node.at("outputs")) {
      if (output.contains("as_tensor")) bind(output.at("as_tensor").at("name").get<std::string>());
      if (!output.contains("as_tensors")) continue;
      for (const json& item : output.at("as_tensors")) bind(item.at("name").get<std::string>());
    }
  }

  void take_call(const json& node, const std::string& target, std::map<std::string, int>& names) {
    // namespace.name.overload; names may hold no dot, overloads may not either.
    const std::size_t first = target.find('.');
    const std::size_t last = target.rfind('.');
    const std::string name = target.substr(first + 1, last - first - 1);
    if (is_guard(name)) {
      define_results(node, names, nullptr);
      return;
    }
    const std::string overload = target.substr(last + 1);
    const auto op = c10::Dispatcher::singleton().findSchema(
        {target.substr(0, first) + "::" + name, overload == "default" ? "" : overload});
    if (!op) {
      faults_.push_back(fmt::format("{} is no operator of this libtorch", where_));
      define_results(node, names, nullptr);
      return;
    }
    Instruction instruction{.op = *op, .where = where_};
    int root = -1;
    try {
      take_operands(node, name, instruction, names, root);
    } catch (const std::invalid_argument& fault) {
      faults_.push_back(fmt::format("{}: {}", where_, fault.what()));
    }
    define_results(node, names, &instruction, root);
    if (instruction.results.size() > op->schema().returns().size()) {
      faults_.push_back(fmt::format("{}: it returns {} values, not {}", where_,
                                    op->schema().returns().size(), instruction.results.size()));
    }
    graph_.code.push_back(std::move(instruction));
  }

  void take_operands(const json& node, const std::string& name, Instruction& instruction,
                     std::map<std::string, int>& names, int& root) {
    const c10::FunctionSchema& schema = instruction.op->schema();
    std::map<std::string, const json*> given;
    for (const json& input : node.at("inputs")) {
      given[input.at("name").get<std::string>()] = &input.at("arg");
    }
    const bool is_random = instruction.op->hasTag(at::Tag::nondeterministic_seeded);
    bool has_generator = false, has_flag = false;
    for (const c10::Argument& argument : schema.arguments()) {
      if (is_generator(argument)) {
        has_generator = true;
        instruction.operands.push_back({.kind = Operand::Kind::generator});
        given.erase(argument.name());
        continue;
      }
      const auto found = given.find(argument.name());
      if (found == given.end() && !argument.default_value()) {
        throw std::invalid_argument(fmt::format("the argument {} is missing", argument.name()));
      }
      Operand operand = found == given.end() ? Operand{.value = *argument.default_value()}
                                             : operand_of(*found->second, argument, names);
      has_flag = set_mode(argument.name(), operand) || has_flag;
      watch_mutation(argument, operand, root);
      instruction.operands.push_back(std::move(operand));
      if (found != given.end()) given.erase(found);
    }
    if (!given.empty()) {
      throw std::invalid_argument(
          fmt::format("the argument {} is not known to this libtorch", given.begin()->first));
    }
    if (updates_statistics(name)) watch_statistics(schema, instruction.operands, name);
    if (!is_random) return;
    if (!has_generator && !draws_from_worker(name)) {
      throw std::invalid_argument("it draws random numbers that cannot be repeated here");
    }
    if (!has_flag) graph_.unflagged_random = where_;
  }

  // Notes, and turns off for evaluation, what distinguishes training from evaluation. True where
  // the argument is such a flag.
  bool set_mode(const std::string& argument, Operand& operand) {
    const bool is_rate = argument == "dropout_p";
    // instance_norm's use_input_stats is settled where its statistics are known.
    const bool is_flag = argument == "training" || argument == "train";
    if (argument == "sparse" && operand.value.isBool()) operand.value = false;
    if (operand.kind != Operand::Kind::constant) return false;
    if (is_rate && operand.value.isDouble()) {
      if (operand.value.toDouble() > 0) ++graph_.train_flags;
      if (mode_ == GraphMode::evaluation) operand.value = 0.0;
      return true;
    }
    if (!is_flag || !operand.value.isBool()) return false;
    ++(operand.value.toBool() ? graph_.train_flags : graph_.eval_flags);
    if (mode_ == GraphMode::evaluation) operand.value = false;
    return true;
  }

  void watch_statistics(const c10::FunctionSchema& schema, std::vector<Operand>& operands,
                        const std::string& name) {
    const auto operand = [&](const char* argument) -> Operand* {
      const auto index = schema.argumentIndexWithName(argument);
      return index ? &operands[static_cast<std::size_t>(*index)] : nullptr;
    };
    Operand* mean = operand("running_mean");
    Operand* variance = operand("running_var");
    Operand* flag = operand(name == "instance_norm" ? "use_input_stats" : "training");
    const bool tracks = mean != nullptr && mean->kind == Operand::Kind::slot;
    if (name == "instance_norm" && tracks && flag != nullptr) {
      ++(flag->value.toBool() ? graph_.train_flags : graph_.eval_flags);
      if (mode_ == GraphMode::evaluation) flag->value = false;
    }
    if (flag == nullptr || !flag->value.isBool() || !flag->value.toBool()) return;
    if (name != "instance_norm") graph_.uses_batch_statistics = true;
    if (!tracks) return;
    for (const Operand* changed : {mean, variance}) {
      if (changed != nullptr && changed->kind == Operand::Kind::slot) mark_mutated(changed->slot);
    }
  }

  void watch_mutation(const c10::Argument& argument, const Operand& operand, int& root) {
    if (argument.alias_info() == nullptr) return;
    std::vector<int> slots = operand.slots;
    if (operand.kind == Operand::Kind::slot) slots.push_back(operand.slot);
    for (const int slot : slots) {
      if (slot < 0) continue;
      if (roots_[static_cast<std::size_t>(slot)] >= 0)
        root = roots_[static_cast<std::size_t>(slot)];
      if (argument.alias_info()->isWrite()) mark_mutated(slot);
    }
  }

  void mark_mutated(int slot) {
    const int root = roots_[static_cast<std::size_t>(slot)];
    if (root < 0) return;
    const GraphInput& input = graph_.inputs[static_cast<std::size_t>(root)];
    if (input.kind == GraphInput::Kind::buffer) mutated_.insert(input.name);
    if (input.kind == GraphInput::Kind::parameter || input.kind == GraphInput::Kind::constant) {
      faults_.push_back(fmt::format("{} changes {} in place during forward", where_, input.name));
    }
  }

  void mark_last_uses() {
    std::vector<bool> seen(static_cast<std::size_t>(graph_.slot_count), false);
    for (const GraphOutput& output : graph_.outputs) {
      seen[static_cast<std::size_t>(output.slot)] = true;
    }
    for (std::size_t i = graph_.code.size(); i-- > 0;) {
      Instruction& instruction = graph_.code[i];
      const auto touch = [&](int slot) {
        if (slot < 0 || seen[static_cast<std::size_t>(slot)]) return;
        seen[static_cast<std::size_t>(slot)] = true;
        instruction.last_used.push_back(slot);
      };
      for (const Operand& operand : instruction.operands) {
        touch(operand.slot);
        for (const int slot : operand.slots) touch(slot);
      }
      for (const Instruction::Result& result : instruction.results) {
        touch(result.slot);
        for (const int slot : result.list) touch(slot);
      }
    }
  }

  const json& program_;
  std::string file_;
  GraphMode mode_;
  Graph graph_;
  std::map<std::string, int> names_;
  std::vector<int> roots_;  // of each slot: the input it may be a view of, or -1
  std::set<std::string> mutated_;
  std::string where_;
  std::vector<std::string> faults_;
};

}  // namespace

void keep_batch_norm(Graph& graph, int slot) {
  for (Instruction& instruction : graph.code) {
    if (!instruction.op || !updates_statistics(name_of(*instruction.op))) continue;
    const c10::FunctionSchema& schema = instruction.op->schema();
    const auto weight = schema.argumentIndexWithName("weight");
    const auto flag = schema.argumentIndexWithName("training");
    if (!weight || !flag) continue;
    const Operand& operand = instruction.operands[static_cast<std::size_t>(*weight)];
    if (operand.kind != Operand::Kind::slot || operand.slot != slot) continue;
    instruction.operands[static_cast<std::size_t>(*flag)].value = false;
  }
}

Graph compile_graph(const json& program, const std::string& file, GraphMode mode) {
  try {
    return Compiler(program, file, mode).compile();
  } catch (const io::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{}: its graph is damaged or of a format that is not known: {}",
                                file, error.what()));
  }
}

}  // namespace hadal::engine
