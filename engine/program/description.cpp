#include "engine/program/description.hpp"

#include <nlohmann/json.hpp>

#include "engine/program/exported_model.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

using nlohmann::ordered_json;

ordered_json sizes(const std::vector<std::int64_t>& extents) {
  ordered_json list = ordered_json::array();
  for (const std::int64_t extent : extents) {
    list.push_back(extent < 0 ? ordered_json("any") : ordered_json(extent));
  }
  return list;
}

// Inputs that fit the graph, whatever it takes.
std::vector<InputSpec> fitting_inputs(const Graph& graph) {
  std::vector<InputSpec> inputs;
  for (const GraphInput& input : graph.inputs) {
    if (input.kind != GraphInput::Kind::user || input.sizes.empty()) continue;
    io::Shape shape(input.sizes.begin() + 1, input.sizes.end());
    for (std::int64_t& extent : shape) extent = std::max<std::int64_t>(extent, 1);
    inputs.push_back({input.name, input.dtype, shape});
  }
  return inputs;
}

}  // namespace

ordered_json describe_program(const std::filesystem::path& path) {
  const ProgramFile file(path);
  ordered_json document = {{"torch", file.torch_version()}, {"schema", file.schema_version()}};
  Graph graph;
  try {
    graph = compile_graph(file.program(), file.name(), GraphMode::as_exported);
  } catch (const io::Error& error) {
    document["faults"] = {error.what()};
    return document;
  }
  const ExportedModel model(path, fitting_inputs(graph));
  std::int64_t parameters = 0;
  for (const ParameterSpec& spec : model.parameters()) parameters += io::element_count(spec.shape);
  const std::string untrainable = model.reason_against_training();
  document["mode"] = untrainable.empty() ? "training" : "evaluation";
  document["evaluation"] =
      file.evaluation() != nullptr ? "a program of its own" : "flags turned off";
  document["batch"] = model.batch() ? ordered_json(*model.batch()) : ordered_json("any");
  document["inputs"] = ordered_json::array();
  for (const GraphInput& input : graph.inputs) {
    if (input.kind != GraphInput::Kind::user) continue;
    document["inputs"].push_back(
        {{"name", input.name}, {"dtype", io::name_of(input.dtype)}, {"sizes", sizes(input.sizes)}});
  }
  document["outputs"] = ordered_json::array();
  for (const GraphOutput& output : graph.outputs) {
    if (!output.mutated_buffer.empty()) continue;
    document["outputs"].push_back({{"name", output.name}, {"sizes", sizes(output.sizes)}});
  }
  document["parameters"] = parameters;
  document["weights"] = ordered_json::array();
  for (const ParameterSpec& spec : model.parameters()) {
    document["weights"].push_back(
        {{"name", spec.name}, {"shape", spec.shape}, {"frozen", spec.frozen}});
  }
  document["operators"] = graph.code.size();
  document["faults"] = ordered_json::array();
  for (const std::string& reason : {untrainable, model.reason_against_evaluation()}) {
    if (!reason.empty()) document["faults"].push_back(reason);
  }
  return document;
}

}  // namespace hadal::engine
