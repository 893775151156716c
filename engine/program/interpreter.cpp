#include "engine/program/interpreter.hpp"

#include <ATen/ATen.h>
#include <ATen/ScalarOps.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "engine/autocast.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// What a region switches, put back when it ends, also by an exception.
class Region {
 public:
  virtual ~Region() = default;
};

class GradRegion : public Region {
 public:
  explicit GradRegion(bool enabled) : guard_(enabled) {}

 private:
  at::AutoGradMode guard_;
};

class AutocastRegion : public Region {
 public:
  AutocastRegion(at::DeviceType device, std::optional<at::ScalarType> dtype)
      : autocast_(device, dtype) {}

 private:
  Autocast autocast_;
};

std::unique_ptr<Region> autocast_region(const Instruction& instruction, at::DeviceType device) {
  // A region of another device says nothing about operators on this one.
  if (instruction.device_type != c10::DeviceTypeName(device, /*lower_case=*/true)) {
    return std::make_unique<Region>();
  }
  return std::make_unique<AutocastRegion>(
      device, instruction.enabled ? std::optional(instruction.autocast_dtype) : std::nullopt);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

// What is written alike for whole and for real numbers; nothing for the other operators.
template <class Number>
std::optional<c10::IValue> compute_alike(SymbolicOp op, Number a, Number b) {
  using enum SymbolicOp;
  switch (op) {
    case add:
      return a + b;
    case sub:
      return a - b;
    case mul:
      return a * b;
    case truediv:
      return static_cast<double>(a) / static_cast<double>(b);
    case neg:
      return -a;
    case minimum:
      return std::min(a, b);
    case maximum:
      return std::max(a, b);
    case to_float:
      return static_cast<double>(a);
    case to_int:
      return static_cast<std::int64_t>(a);  // towards zero
    case eq:
      return a == b;
    case ne:
      return a != b;
    case lt:
      return a < b;
    case le:
      return a <= b;
    case gt:
      return a > b;
    case ge:
      return a >= b;
    default:
      return {};
  }
}

c10::IValue compute_whole(SymbolicOp op, std::int64_t a, std::int64_t b) {
  using enum SymbolicOp;
  if ((op == floordiv || op == mod || op == truediv) && b == 0) {
    throw std::invalid_argument("division of a size by zero");
  }
  if (const auto value = compute_alike(op, a, b)) return *value;
  switch (op) {
    case floordiv:
      return floor_divide(a, b);
    case mod:
      return a - floor_divide(a, b) * b;
    case pow:
      return static_cast<std::int64_t>(std::pow(static_cast<double>(a), static_cast<double>(b)));
    case logical_not:
      return a == 0;
    case logical_and:
      return a != 0 && b != 0;
    case logical_or:
      return a != 0 || b != 0;
    default:
      return {};
  }
}

c10::IValue compute_real(SymbolicOp op, double a, double b) {
  using enum SymbolicOp;
  if (const auto value = compute_alike(op, a, b)) return *value;
  switch (op) {
    case floordiv:
      return std::floor(a / b);
    case mod:
      return a - std::floor(a / b) * b;
    case pow:
      return std::pow(a, b);
    default:
      throw std::invalid_argument("a logical operator on fractions");
  }
}

c10::IValue compute(SymbolicOp op, const std::vector<c10::IValue>& numbers) {
  if (numbers.empty() || numbers.size() > 2) throw std::invalid_argument("one or two numbers");
  const c10::IValue& a = numbers.front();
  const c10::IValue& b = numbers.back();
  if (a.isDouble() || b.isDouble()) {
    const auto real = [](const c10::IValue& v) { return v.toScalar().toDouble(); };
    return compute_real(op, real(a), real(b));
  }
  const auto whole = [](const c10::IValue& v) { return v.toScalar().toLong(); };
  return compute_whole(op, whole(a), whole(b));
}

class Runner {
 public:
  Runner(const Graph& graph, std::vector<c10::IValue> slots, const at::Generator& generator,
         at::Device device)
      : graph_(graph), slots_(std::move(slots)), generator_(generator), device_(device) {}

  std::vector<at::Tensor> run() {
    for (const Instruction& instruction : graph_.code) {
      switch (instruction.kind) {
        case Instruction::Kind::call:
          call(instruction);
          break;
        case Instruction::Kind::symbolic:
          compute_symbolic(instruction);
          break;
        case Instruction::Kind::set_grad:
          regions_.push_back(std::make_unique<GradRegion>(instruction.enabled));
          break;
        case Instruction::Kind::autocast:
          regions_.push_back(autocast_region(instruction, device_.type()));
          break;
        case Instruction::Kind::leave:
          regions_.pop_back();
          break;
      }
      for (const int slot : instruction.last_used) at(slot) = {};
    }
    std::vector<at::Tensor> outputs;
    for (const GraphOutput& output : graph_.outputs) outputs.push_back(at(output.slot).toTensor());
    return outputs;
  }

  // A failure leaves the innermost region first.
  ~Runner() {
    while (!regions_.empty()) regions_.pop_back();
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

 private:
  c10::IValue& at(int slot) { return slots_[static_cast<std::size_t>(slot)]; }

  c10::IValue value_of(const Operand& operand) {
    switch (operand.kind) {
      case Operand::Kind::constant:
        // Whatever device the program was exported on, it runs on this run's.
        return operand.value.isDevice() ? c10::IValue(device_) : operand.value;
      case Operand::Kind::slot:
        return at(operand.slot);
      case Operand::Kind::number_as_tensor: {
        at::Tensor tensor =
            at::scalar_to_tensor((operand.slot < 0 ? operand.value : at(operand.slot)).toScalar());
        tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
        return tensor;
      }
      case Operand::Kind::tensors: {
        c10::List<at::Tensor> list;
        for (const int slot : operand.slots) list.push_back(at(slot).toTensor());
        return list;
      }
      case Operand::Kind::optional_tensors: {
        c10::List<std::optional<at::Tensor>> list;
        for (const int slot : operand.slots) {
          list.push_back(slot < 0 ? std::nullopt : std::optional(at(slot).toTensor()));
        }
        return list;
      }
      case Operand::Kind::numbers: {
        c10::List<std::int64_t> list;
        for (std::size_t i = 0; i < operand.slots.size(); ++i) {
          list.push_back(operand.slots[i] < 0 ? operand.literals[i] : at(operand.slots[i]).toInt());
        }
        return list;
      }
      case Operand::Kind::generator:
        return generator_;
    }
    return {};
  }

  void call(const Instruction& instruction) {
    stack_.clear();
    try {
      for (const Operand& operand : instruction.operands) stack_.push_back(value_of(operand));
      instruction.op->callBoxed(&stack_);
    } catch (const std::exception& error) {
      // The first line says it; the rest is a C++ back trace.
      const std::string what = error.what();
      throw io::Error(io::ErrorKind::checkpoint, fmt::format("{} failed: {}", instruction.where,
                                                             what.substr(0, what.find('\n'))));
    }
    for (std::size_t i = 0; i < instruction.results.size(); ++i) {
      const Instruction::Result& result = instruction.results[i];
      if (result.is_list) {
        const auto list = stack_[i].toTensorVector();
        for (std::size_t k = 0; k < std::min(list.size(), result.list.size()); ++k) {
          at(result.list[k]) = list[k];
        }
      } else if (result.slot >= 0) {
        at(result.slot) = std::move(stack_[i]);
      }
    }
  }

  void compute_symbolic(const Instruction& instruction) {
    std::vector<c10::IValue> numbers;
    for (const Operand& operand : instruction.operands) numbers.push_back(value_of(operand));
    try {
      const c10::IValue value = compute(instruction.symbolic, numbers);
      if (!instruction.results.empty() && instruction.results[0].slot >= 0) {
        at(instruction.results[0].slot) = value;
      }
    } catch (const std::exception& error) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} failed: {}", instruction.where, error.what()));
    }
  }

  const Graph& graph_;
  std::vector<c10::IValue> slots_;
  const at::Generator& generator_;
  at::Device device_;
  std::vector<c10::IValue> stack_;
  std::vector<std::unique_ptr<Region>> regions_;
};

}  // namespace

std::vector<at::Tensor> run_graph(const Graph& graph, std::vector<c10::IValue> slots,
                                  const at::Generator& generator, at::Device device) {
  return Runner(graph, std::move(slots), generator, device).run();
}

}  // namespace hadal::engine
