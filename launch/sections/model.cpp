#include "engine/model.hpp"

#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

void add_model(Table& table) {
  table.set("model.kind", choice(engine::model_kinds()), nullptr, Bound::identity,
            "A model of the zoo.", [](RunConfig& c, const json& v) { c.model.kind = v; });
  table.set("model.program", plain(Kind::path), nullptr, Bound::free,
            "A torch.export program (.pt2) instead of model.kind.",
            [](RunConfig& c, const json& v) { c.model.program = v; });
  table.set("model.script", plain(Kind::path), nullptr, Bound::free,
            "A TorchScript archive instead, which PyTorch has deprecated.",
            [](RunConfig& c, const json& v) { c.model.script = v; });
  table.add("model.options.*", plain(Kind::any), nullptr, Bound::identity,
            "Options of the model: classes, hidden, channels, dropout.",
            [](RunConfig& c, const std::string& name, const json& v) {
              c.model.options[name] = v.dump();
            });
  table.set("model.weights", plain(Kind::path), nullptr, Bound::free,
            "First weights, a safetensors file; unset: from the seed.",
            [](RunConfig& c, const json& v) { c.model.weights = v; });
  table.set("model.key_map", plain(Kind::pairs), json::array(), Bound::free,
            "Pairs of a regular expression over the names in the weights and what it becomes.",
            [](RunConfig& c, const json& v) {
              for (const json& pair : v) c.model.key_map.emplace_back(pair[0], pair[1]);
            });
  table.set("model.reset", plain(Kind::texts), json::array(), Bound::identity,
            "Globs of parameters that are drawn anew, whatever the weights say.",
            [](RunConfig& c, const json& v) { c.model.reset = as_list(v); });
  table.set("model.strict", plain(Kind::boolean), true, Bound::free,
            "The names of the weights must match the model's both ways.",
            [](RunConfig& c, const json& v) { c.model.strict = v; });
}

}  // namespace hadal::launch
