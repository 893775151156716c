#include "engine/model.hpp"

#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

void add_model(Table& table) {
  table
      .set("model.kind", choice(engine::model_kinds()), nullptr, Bound::identity,
           "A model of the zoo.", [](RunConfig& c, const json& v) { c.model.kind = v; })
      .required = true;
  table.add(
      "model.options.*", plain(Kind::any), nullptr, Bound::identity,
      "Options of the model: classes, hidden, channels, dropout.",
      [](RunConfig& c, const std::string& name, const json& v) { c.model.options[name] = v; });
  table.set("model.weights", plain(Kind::path), nullptr, Bound::free,
            "First weights, a safetensors file; unset: from the seed.",
            [](RunConfig& c, const json& v) { c.model.weights = v; });
  table.set("model.strict", plain(Kind::boolean), true, Bound::free,
            "The names of the weights must match the model's both ways.",
            [](RunConfig& c, const json& v) { c.model.strict = v; });
}

}  // namespace hadal::launch
