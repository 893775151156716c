#include "launch/schema.hpp"

#include "launch/sections/table.hpp"

namespace hadal::launch {

const std::vector<KeySpec>& schema() {
  static const std::vector<KeySpec> rows = [] {
    Table table;
    add_run(table);
    add_data(table);
    add_fields(table, "data.inputs.*", io::FieldRole::input, "float32");
    add_fields(table, "data.targets.*", io::FieldRole::target, "int64");
    add_sample_fields(table);
    add_model(table);
    add_objective(table);
    add_train(table);
    add_optimizer(table);
    add_schedule(table);
    add_checkpoint(table);
    add_job(table);
    return table.rows;
  }();
  return rows;
}

const KeySpec* find_key(const std::string& key, std::string* name) {
  for (const KeySpec& row : schema()) {
    const std::size_t star = row.key.find('*');
    if (star == std::string::npos) {
      if (row.key == key) return &row;
      continue;
    }
    const std::string before = row.key.substr(0, star);
    const std::string after = row.key.substr(star + 1);
    if (key.size() <= before.size() + after.size() || !key.starts_with(before) ||
        !key.ends_with(after)) {
      continue;
    }
    const std::string middle = key.substr(before.size(), key.size() - before.size() - after.size());
    if (middle.find('.') != std::string::npos) continue;
    if (name != nullptr) *name = middle;
    return &row;
  }
  return nullptr;
}

nlohmann::ordered_json json_schema() {
  using ordered = nlohmann::ordered_json;
  ordered root = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                  {"title", "hadal config"},
                  {"type", "object"},
                  {"additionalProperties", false},
                  {"properties", {{"include", {{"type", "string"}}}}}};
  for (const KeySpec& row : schema()) {
    ordered* at = &root;
    std::string rest = row.key;
    for (;;) {
      const std::size_t dot = rest.find('.');
      const std::string part = rest.substr(0, dot);
      if (!at->contains("type")) {
        (*at)["type"] = "object";
        (*at)["additionalProperties"] = false;
      }
      if (dot == std::string::npos && row.required) (*at)["required"].push_back(part);
      if (part == "*" && row.key.starts_with("optimizer.group.")) {
        // A list of tables in the file.
        *at = {{"type", "array"}, {"items", at->value("items", ordered::object())}};
        at = &(*at)["items"];
      } else {
        at = part == "*" ? &(*at)["additionalProperties"] : &(*at)["properties"][part];
      }
      if (at->is_boolean() || at->is_null()) *at = ordered::object();
      if (dot == std::string::npos) break;
      rest = rest.substr(dot + 1);
    }
    at->update(json_schema_of(row.type));
    (*at)["description"] = row.help;
    if (!row.otherwise.is_null()) (*at)["default"] = row.otherwise;
  }
  return root;
}

}  // namespace hadal::launch
