#pragma once
// A TOML file and the --set options as a flat list of dotted keys, each with the place it came
// from.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace hadal::launch {

struct ConfigEntry {
  std::string key;
  nlohmann::json value;
  std::string source;            // "config.toml:12:5", "--set" or "default"
  std::filesystem::path folder;  // relative paths start here
  std::size_t line = 0;          // in its file
  std::size_t column = 0;
};

// Reads the file, the files it includes (the including file wins), and the options on top. Later
// entries of the same key have replaced earlier ones. Throws a config error with file, line and
// column for what is no TOML.
std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path,
                                          const std::vector<std::string>& settings);

// Both, the second ones where a key stands in both.
std::vector<ConfigEntry> merged(std::vector<ConfigEntry> below, std::vector<ConfigEntry> above);

// Defaults of [job] for this place: $HADAL_SITE, else /etc/hadal/site.toml, or nothing. Throws a
// config error where the file sets anything else.
std::vector<ConfigEntry> read_site_file();

// A config from text, as if it stood in `path`.
std::vector<ConfigEntry> parse_config(const std::string& text, const std::filesystem::path& path);

}  // namespace hadal::launch
