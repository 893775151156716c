#pragma once
// A program's graph, compiled once: a flat list of operator calls over numbered slots. Names,
// schemas and defaults are resolved here; running it looks nothing up. What cannot run is refused
// here too, with the operator and the line of the user's Python that made it.

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::engine {

// Where a call's argument comes from.
struct Operand {
  enum class Kind {
    constant,          // `value`
    slot,              // the value of `slot`
    number_as_tensor,  // a number (`slot`, or `value` where slot < 0) where a tensor is expected
    tensors,           // list of `slots`
    optional_tensors,  // the same; -1 stands for none
    numbers,           // list of ints: `slots[i]`, or `literals[i]` where it is -1
    generator          // the worker's random generator
  };
  Kind kind = Kind::constant;
  c10::IValue value;
  int slot = -1;
  std::vector<int> slots;
  std::vector<std::int64_t> literals;
};

// Scalar arithmetic of dynamic shapes: targets such as `_operator.add` and `torch.sym_max`.
enum class SymbolicOp {
  add,
  sub,
  mul,
  floordiv,
  mod,
  truediv,
  pow,
  neg,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  logical_and,
  logical_or,
  logical_not,
  minimum,
  maximum,
  to_float,
  to_int
};

struct Instruction {
  enum class Kind { call, symbolic, set_grad, autocast, leave };
  Kind kind = Kind::call;
  std::optional<c10::OperatorHandle> op;
  SymbolicOp symbolic = SymbolicOp::add;
  std::vector<Operand> operands;
  // One entry a value that the operator returns: its slot, -1 where nobody uses it, or the slots of
  // a returned list.
  struct Result {
    int slot = -1;
    std::vector<int> list;
    bool is_list = false;
  };
  std::vector<Result> results;
  std::vector<int> last_used;  // slots to free afterwards
  std::string where;           // operator and source line, for errors
  // set_grad and autocast: what holds until the matching `leave`.
  bool enabled = false;
  std::string device_type;
  at::ScalarType autocast_dtype = at::kBFloat16;
};

struct GraphInput {
  enum class Kind { parameter, buffer, constant, user };
  Kind kind = Kind::user;
  std::string name;  // in the state dict, or of the forward argument
  int slot = -1;
  bool persistent = true;
  io::DType dtype = io::DType::f32;  // user inputs
  std::vector<std::int64_t> sizes;   // user inputs; -1 where dynamic
};

struct GraphOutput {
  std::string name;
  int slot = -1;
  std::string mutated_buffer;  // where the value is a buffer's new one, and no output
  std::vector<std::int64_t> sizes;
};

struct Graph {
  std::vector<Instruction> code;
  std::vector<GraphInput> inputs;
  std::vector<GraphOutput> outputs;
  int slot_count = 0;
  std::vector<std::string> mutated;  // buffers that running it may change
  bool uses_batch_statistics = false;
  int train_flags = 0;  // operators that say train (or a dropout rate)
  int eval_flags = 0;   // operators that have such a flag and say evaluation
  // An operator that draws random numbers and has no flag to turn that off, with its place.
  std::string unflagged_random;
};

enum class GraphMode {
  as_exported,
  evaluation  // train flags off, dropout rates 0
};

// Turns the batch norm whose weight is the value of `slot` to evaluation mode.
void keep_batch_norm(Graph& graph, int slot);

// Compiles `program` (an ExportedProgram of the schema). `file` names it in messages. Throws a
// checkpoint error that lists every operator that cannot run.
Graph compile_graph(const nlohmann::json& program, const std::string& file, GraphMode mode);

}  // namespace hadal::engine
