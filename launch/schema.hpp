#pragma once
// The one table of config keys: checking, defaults, help, the resolved config, the JSON Schema and
// the run's identity all come from it.

#include <functional>
#include <string>
#include <vector>

#include "engine/run_config.hpp"
#include "launch/job/options.hpp"
#include "launch/values.hpp"

namespace hadal::launch {

// What a config fills.
struct Settings {
  engine::RunConfig& run;
  JobOptions& job;
};

struct KeySpec {
  // Dotted; a `*` stands for a name that the user chooses ("data.inputs.*.path").
  std::string key;
  ValueType type;
  // The default as JSON; null where the key is unset by default.
  nlohmann::json otherwise;
  bool required = false;
  bool identity = false;
  std::string help;
  // Puts the value into the config. `name` is what the `*` stands for.
  std::function<void(const Settings&, const std::string& name, const nlohmann::json& value)> apply;
};

// In the order of the reference config.
const std::vector<KeySpec>& schema();

// The row for a dotted key, or nothing. `name` receives what the `*` stands for.
const KeySpec* find_key(const std::string& key, std::string* name = nullptr);

// The whole table as a JSON Schema document.
nlohmann::ordered_json json_schema();

}  // namespace hadal::launch
