#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/models/zoo.hpp"
#include "engine/program/exported_model.hpp"
#include "engine/script_model.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "io/nearest.hpp"

namespace hadal::engine {
namespace models {
namespace {

io::Error bad(const std::string& message) { return {io::ErrorKind::config, message}; }

}  // namespace

std::optional<nlohmann::json> OptionReader::find(const std::string& name) {
  asked_.insert(name);
  const auto found = options_.options.find(name);
  if (found == options_.options.end()) return std::nullopt;
  return io::parse_json(found->second);
}

std::int64_t OptionReader::count(const std::string& name, std::int64_t otherwise) {
  const std::optional<nlohmann::json> value = find(name);
  if (!value) return otherwise;
  if (!value->is_number_integer() || value->get<std::int64_t>() < 1) {
    throw bad(
        fmt::format("model.options.{} = {} must be a whole number from 1", name, value->dump()));
  }
  return value->get<std::int64_t>();
}

double OptionReader::share(const std::string& name, double otherwise) {
  const std::optional<nlohmann::json> value = find(name);
  if (!value) return otherwise;
  if (!value->is_number() || value->get<double>() < 0 || value->get<double>() >= 1) {
    throw bad(
        fmt::format("model.options.{} = {} must be at least 0 and below 1", name, value->dump()));
  }
  return value->get<double>();
}

std::vector<std::int64_t> OptionReader::counts(const std::string& name,
                                               const std::vector<std::int64_t>& otherwise) {
  const std::optional<nlohmann::json> value = find(name);
  if (!value) return otherwise;
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
  for (const auto& [name, value] : options_.options) {
    if (asked_.contains(name)) continue;
    const std::string near = io::nearest(name, {asked_.begin(), asked_.end()});
    throw bad(fmt::format("model.options.{} is not known for the kind \"{}\"{}; it has: {}", name,
                          kind(), near.empty() ? "" : fmt::format(", did you mean {}?", near),
                          fmt::join(asked_, ", ")));
  }
}

void require_image(const OptionReader& options, const io::Shape& input, std::size_t dims) {
  if (input.size() == dims + 1) return;
  throw bad(
      fmt::format("{} needs samples of shape [channels, {}height, width], they have {}; set "
                  "data.inputs.NAME.layout = \"{}\" where channels are stored last",
                  options.kind(), dims == 3 ? "depth, " : "", io::to_string(input),
                  dims == 3 ? "NDHWC" : "NHWC"));
}

void require_heads(std::int64_t width, std::int64_t heads) {
  if (width % heads == 0) return;
  throw bad(fmt::format("model.options.width = {} is no multiple of model.options.heads = {}",
                        width, heads));
}

namespace {

struct Kind {
  const char* name;
  io::DType input;
  Factory* make;
};

constexpr Kind kKinds[] = {{"mlp", io::DType::f32, mlp},
                           {"convnet", io::DType::f32, convnet},
                           {"resnet18", io::DType::f32, resnet18},
                           {"resnet34", io::DType::f32, resnet34},
                           {"resnet50", io::DType::f32, resnet50},
                           {"vit", io::DType::f32, vit},
                           {"unet", io::DType::f32, unet},
                           {"unet3d", io::DType::f32, unet3d},
                           {"cosmoflow", io::DType::f32, cosmoflow},
                           {"gpt", io::DType::i64, gpt}};

std::unique_ptr<Model> build(const ModelOptions& options, const std::vector<InputSpec>& inputs,
                             const io::Shape& wanted) {
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const Kind& k) { return options.kind == k.name; });
  if (kind == std::end(kKinds)) {
    throw bad(fmt::format("model.kind = \"{}\" is not known; known are: {}", options.kind,
                          fmt::join(model_kinds(), ", ")));
  }
  if (inputs.size() != 1) {
    throw bad(fmt::format("model.kind = \"{}\" takes one input, [data.inputs] names {}",
                          options.kind, inputs.size()));
  }
  const InputSpec& input = inputs.front();
  if (input.dtype != kind->input) {
    throw bad(fmt::format("model.kind = \"{}\" takes {}: set data.inputs.{}.dtype = \"{}\"",
                          options.kind, io::name_of(kind->input), input.name,
                          io::name_of(kind->input)));
  }
  OptionReader reader(options);
  std::unique_ptr<Model> model = kind->make(reader, input.shape, wanted);
  reader.finish();
  return model;
}

}  // namespace
}  // namespace models

std::vector<std::string> model_kinds() {
  std::vector<std::string> names;
  for (const models::Kind& kind : models::kKinds) names.emplace_back(kind.name);
  return names;
}

std::optional<std::int64_t> classes_of(const ModelOptions& options) {
  const auto found = options.options.find("classes");
  if (found == options.options.end()) return std::nullopt;
  const nlohmann::json value = io::parse_json(found->second);
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1) return std::nullopt;
  return value.get<std::int64_t>();
}

std::unique_ptr<Model> build_model(const ModelOptions& options,
                                   const std::vector<InputSpec>& inputs, const io::Shape& wanted) {
  if (!options.program.empty()) return std::make_unique<ExportedModel>(options.program, inputs);
  if (!options.script.empty()) return script_model(options.script, inputs);
  return models::build(options, inputs, wanted);
}

}  // namespace hadal::engine
