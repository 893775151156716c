#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/models/zoo.hpp"
#include "engine/program/exported_model.hpp"
#include "io/error.hpp"
#include "io/nearest.hpp"

namespace hadal::engine {
namespace models {
namespace {

io::Error bad(const std::string& message) { return {io::ErrorKind::config, message}; }

}  // namespace

const nlohmann::json* OptionReader::find(const std::string& name) {
  asked_.insert(name);
  const auto found = options_.find(name);
  return found == options_.end() ? nullptr : &*found;
}

std::int64_t OptionReader::count(const std::string& name, std::int64_t otherwise) {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number_integer() || value->get<std::int64_t>() < 1) {
    throw bad(
        fmt::format("model.options.{} = {} must be a whole number from 1", name, value->dump()));
  }
  return value->get<std::int64_t>();
}

double OptionReader::share(const std::string& name, double otherwise) {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number() || value->get<double>() < 0 || value->get<double>() >= 1) {
    throw bad(
        fmt::format("model.options.{} = {} must be at least 0 and below 1", name, value->dump()));
  }
  return value->get<double>();
}

std::vector<std::int64_t> OptionReader::counts(const std::string& name,
                                               const std::vector<std::int64_t>& otherwise) {
  const nlohmann::json* value = find(name);
  if (value == nullptr) return otherwise;
  std::vector<std::int64_t> list;
  for (const nlohmann::json& item : *value) {
    if (!value->is_array() || !item.is_number_integer() || item.get<std::int64_t>() < 1) {
      throw bad(fmt::format("model.options.{} = {} must be a list of whole numbers from 1", name,
                            value->dump()));
    }
    list.push_back(item.get<std::int64_t>());
  }
  return list;
}

void OptionReader::finish() const {
  for (const auto& [name, value] : options_.items()) {
    if (asked_.contains(name)) continue;
    const std::string near = io::nearest(name, {asked_.begin(), asked_.end()});
    throw bad(fmt::format("model.options.{} is not known for the kind \"{}\"{}; it has: {}", name,
                          kind_, near.empty() ? "" : fmt::format(", did you mean {}?", near),
                          fmt::join(asked_, ", ")));
  }
}

}  // namespace models

std::vector<std::string> model_kinds() {
  return {"mlp", "convnet", "resnet18", "resnet34", "resnet50"};
}

std::unique_ptr<Model> build_model(const ModelOptions& options,
                                   const std::vector<InputSpec>& inputs, std::int64_t outputs) {
  if (!options.program.empty()) return std::make_unique<ExportedModel>(options.program, inputs);
  if (inputs.size() != 1) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("model.kind = \"{}\" takes one input, [data.inputs] names {}",
                                options.kind, inputs.size()));
  }
  const io::Shape& input = inputs.front().shape;
  models::OptionReader reader(options.kind, options.options);
  std::unique_ptr<Model> model;
  if (options.kind == "mlp") model = models::mlp(reader, input, outputs);
  if (options.kind == "convnet") model = models::convnet(reader, input, outputs);
  if (options.kind.starts_with("resnet"))
    model = models::resnet(options.kind, reader, input, outputs);
  if (!model) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("model.kind = \"{}\" is not known; known are: {}", options.kind,
                                fmt::join(model_kinds(), ", ")));
  }
  reader.finish();
  return model;
}

}  // namespace hadal::engine
