#pragma once
// The checked config: a RunConfig, and every key with its value and source.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/run_config.hpp"
#include "launch/config_file.hpp"
#include "launch/job/options.hpp"

namespace hadal::launch {

struct ResolvedKey {
  std::string key;
  nlohmann::json value;
  std::string source;
  bool identity = false;
};

struct LoadedConfig {
  engine::RunConfig run;
  JobOptions job;
  std::vector<ResolvedKey> keys;  // in the schema's order
  std::string text;               // of the file as given

  // Nothing where neither the file nor a default sets the key.
  const ResolvedKey* find(const std::string& key) const;
};

// Reads and checks a config. Throws one config error that lists every fault with file, line, column
// and, for an unknown key, the nearest known one.
LoadedConfig load_config(const std::filesystem::path& path,
                         const std::vector<std::string>& settings);

// The checks on entries that came from anywhere; `name` is the default of run.name.
LoadedConfig resolve(const std::vector<ConfigEntry>& entries, const std::filesystem::path& path);

// What is not a default, as one TOML file with absolute paths: it stands for the config wherever it
// lies.
std::string given_text(const LoadedConfig& config);

// What --set says of keys outside [job], as its arguments again, with absolute paths.
std::vector<std::string> given_settings(const LoadedConfig& config);

// The config with every default and where each value comes from, as TOML.
std::string resolved_text(const LoadedConfig& config);

}  // namespace hadal::launch
