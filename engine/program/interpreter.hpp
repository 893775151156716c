#pragma once
// Runs a compiled graph through the dispatcher, so autograd and autocast apply as they do to the
// same calls from Python. Any thread; nothing is shared between calls but the graph.

#include <ATen/core/Generator.h>
#include <ATen/core/ivalue.h>

#include <vector>

#include "engine/program/graph.hpp"

namespace at {
class Tensor;
}

namespace hadal::engine {

// `slots` has graph.slot_count entries with the inputs' values in theirs. Returns the values of
// graph.outputs. Random operators draw from `generator`; what the graph makes out of nothing lies
// on `device`, where the inputs are. Throws a checkpoint error that names the
// operator and its source line where one fails.
std::vector<at::Tensor> run_graph(const Graph& graph, std::vector<c10::IValue> slots,
                                  const at::Generator& generator, at::Device device);

}  // namespace hadal::engine
