#include "launch/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/nearest.hpp"
#include "launch/config_rules.hpp"
#include "launch/environment.hpp"
#include "launch/schema.hpp"

namespace hadal::launch {
namespace {

using nlohmann::json;

std::vector<std::string> key_names(const std::string& like) {
  // A `*` in the schema stands for the user's own name: take it from the key at hand.
  std::vector<std::string> names;
  for (const KeySpec& row : schema()) {
    const std::size_t star = row.key.find('*');
    if (star == std::string::npos) {
      names.push_back(row.key);
      continue;
    }
    if (!like.starts_with(row.key.substr(0, star))) continue;
    const std::size_t end = std::min(like.find('.', star), like.size());
    names.push_back(row.key.substr(0, star) + like.substr(star, end - star) +
                    row.key.substr(star + 1));
  }
  return names;
}

std::string absolute_path(const std::string& text, const std::filesystem::path& folder) {
  const std::filesystem::path path = expand_variables(text);
  return (path.is_absolute() ? path : folder / path).lexically_normal().string();
}

json with_absolute_paths(const KeySpec& row, const ConfigEntry& entry) {
  if (row.type.kind != ValueKind::path && row.type.kind != ValueKind::paths) return entry.value;
  if (entry.value.is_string()) return absolute_path(entry.value.get<std::string>(), entry.folder);
  json list = json::array();
  for (const json& item : entry.value)
    list.push_back(absolute_path(item.get<std::string>(), entry.folder));
  return list;
}

struct Resolver {
  LoadedConfig& config;
  std::vector<std::string> faults;

  void take(const ConfigEntry& entry) {
    std::string name;
    const KeySpec* row = find_key(entry.key, &name);
    if (row == nullptr) {
      const std::string near = io::nearest(entry.key, key_names(entry.key));
      faults.push_back(fmt::format("{}: {} is no key{}", entry.source, entry.key,
                                   near.empty() ? "; \"hadal check --schema\" lists them"
                                                : fmt::format("; did you mean {}?", near)));
      return;
    }
    if (const auto fault = fault_of(row->type, entry.value)) {
      faults.push_back(
          fmt::format("{}: {} = {} {}", entry.source, entry.key, entry.value.dump(), *fault));
      return;
    }
    try {
      const json value = with_absolute_paths(*row, entry);
      row->apply({config.run, config.job}, name, value);
      keep(*row, entry.key, value, entry.source);
    } catch (const io::Error& error) {
      faults.push_back(fmt::format("{}: {}: {}", entry.source, entry.key, error.what()));
    }
  }

  void keep(const KeySpec& row, const std::string& key, const json& value,
            const std::string& source) {
    config.keys.push_back({key, value, source, row.identity});
    if (row.identity) config.run.identity[key] = value.dump();
  }

  // Names under a prefix with a `*`: the inputs and targets.
  std::vector<std::string> user_names(const std::string& prefix) const {
    std::vector<std::string> names;
    for (const ResolvedKey& key : config.keys) {
      if (!key.key.starts_with(prefix)) continue;
      const std::string name =
          key.key.substr(prefix.size(), key.key.find('.', prefix.size()) - prefix.size());
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    return names;
  }

  void take_default(const KeySpec& row, const std::string& key, const std::string& name) {
    if (config.find(key) != nullptr) return;
    if (row.required) {
      faults.push_back(fmt::format("{} is missing: {}", key, row.help));
    } else if (!row.otherwise.is_null()) {
      row.apply({config.run, config.job}, name, row.otherwise);
      keep(row, key, row.otherwise, "default");
    }
  }

  void take_defaults() {
    for (const KeySpec& row : schema()) {
      const std::size_t star = row.key.find('*');
      if (star == std::string::npos) {
        take_default(row, row.key, "");
        continue;
      }
      const std::string prefix = row.key.substr(0, star);
      for (const std::string& name : user_names(prefix)) {
        if (!row.key.ends_with(".*"))
          take_default(row, prefix + name + row.key.substr(star + 1), name);
      }
    }
  }

  void sort_keys() {
    const auto place = [](const std::string& key) { return find_key(key) - schema().data(); };
    std::stable_sort(config.keys.begin(), config.keys.end(),
                     [&](const auto& a, const auto& b) { return place(a.key) < place(b.key); });
  }
};

// JSON and TOML write scalars and lists of them alike.
std::string toml_text(const json& value) {
  if (value.is_object()) {
    std::vector<std::string> members;
    for (const auto& [name, member] : value.items()) {
      members.push_back(fmt::format("{} = {}", name, toml_text(member)));
    }
    return fmt::format("{{ {} }}", fmt::join(members, ", "));
  }
  if (!value.is_array()) return value.dump();
  std::vector<std::string> items;
  for (const json& item : value) items.push_back(toml_text(item));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

// A dotted key whose parts hold more than TOML's bare keys may.
std::string toml_key(const std::string& key) {
  std::vector<std::string> parts;
  std::istringstream rest(key);
  for (std::string part; std::getline(rest, part, '.');) {
    const bool bare = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '_' || c == '-';
    });
    parts.push_back(bare ? part : json(part).dump());
  }
  return fmt::format("{}", fmt::join(parts, "."));
}

}  // namespace

const ResolvedKey* LoadedConfig::find(const std::string& key) const {
  const auto it =
      std::find_if(keys.begin(), keys.end(), [&](const ResolvedKey& k) { return k.key == key; });
  return it == keys.end() ? nullptr : &*it;
}

LoadedConfig resolve(const std::vector<ConfigEntry>& entries, const std::filesystem::path& path) {
  LoadedConfig config;
  Resolver resolver{config, {}};
  for (const ConfigEntry& entry : entries) resolver.take(entry);
  resolver.take_defaults();
  if (resolver.faults.empty()) resolver.faults = check_together(config, path);
  if (!resolver.faults.empty()) {
    const std::size_t count = resolver.faults.size();
    throw io::Error(
        io::ErrorKind::config,
        fmt::format("{}{}", count > 1 ? fmt::format("{} faults in the config:\n  ", count) : "",
                    fmt::join(resolver.faults, "\n  ")));
  }
  resolver.sort_keys();
  return config;
}

LoadedConfig load_config(const std::filesystem::path& path,
                         const std::vector<std::string>& settings) {
  LoadedConfig config = resolve(merged(read_site_file(), read_config_file(path, settings)), path);
  config.text = io::read_file(path);
  return config;
}

std::string given_text(const LoadedConfig& config) {
  // These follow from where the file lies, unless it says so itself.
  std::string text = fmt::format("run.name = {}\nrun.dir = {}\n", json(config.run.run.name).dump(),
                                 json(config.run.run.dir.string()).dump());
  std::string groups, group;
  for (const ResolvedKey& key : config.keys) {
    if (key.source == "default" || key.key == "run.name" || key.key == "run.dir") continue;
    // Lists of tables have their number in the key, and come after everything else.
    const std::string prefix = "optimizer.group.";
    if (!key.key.starts_with(prefix)) {
      text += fmt::format("{} = {}\n", toml_key(key.key), toml_text(key.value));
      continue;
    }
    const std::size_t dot = key.key.find('.', prefix.size());
    const std::string number = key.key.substr(prefix.size(), dot - prefix.size());
    if (number != group) groups += "[[optimizer.group]]\n";
    group = number;
    groups += fmt::format("{} = {}\n", key.key.substr(dot + 1), toml_text(key.value));
  }
  return text + groups;
}

std::vector<std::string> given_settings(const LoadedConfig& config) {
  std::vector<std::string> settings;
  for (const ResolvedKey& key : config.keys) {
    if (key.source != "--set" || key.key.starts_with("job.")) continue;
    settings.push_back(fmt::format("{}={}", key.key, toml_text(key.value)));
  }
  return settings;
}

std::string resolved_text(const LoadedConfig& config) {
  std::string text = "# Every key with its value and where it comes from.\n";
  for (const ResolvedKey& key : config.keys) {
    text += fmt::format("{} = {}  # {}\n", key.key, toml_text(key.value), key.source);
  }
  return text;
}

}  // namespace hadal::launch
