#include "launch/config_file.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "launch/environment.hpp"
#include "launch/schema.hpp"

namespace hadal::launch {
namespace {

using nlohmann::json;

io::Error config_error(const std::string& message) { return {io::ErrorKind::config, message}; }

json to_json(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* whole = node.as_integer()) return whole->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* truth = node.as_boolean()) return truth->get();
  if (const auto* list = node.as_array()) {
    json items = json::array();
    for (const toml::node& item : *list) items.push_back(to_json(item));
    return items;
  }
  json members = json::object();
  if (const auto* table = node.as_table()) {
    for (const auto& [key, member] : *table) members[std::string(key.str())] = to_json(member);
  }
  // Dates and times have no place in the config; an empty table lets the type fail.
  return members;
}

void flatten(const toml::table& table, const std::string& prefix, const std::filesystem::path& path,
             std::vector<ConfigEntry>& entries) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (const auto* inner = node.as_table()) {
      flatten(*inner, name + ".", path, entries);
      continue;
    }
    // A list of tables that is no key's value: each under its number, "optimizer.group.0.match".
    if (const auto* list = node.as_array();
        list != nullptr && list->is_array_of_tables() && find_key(name) == nullptr) {
      for (std::size_t i = 0; i < list->size(); ++i) {
        flatten(*list->get_as<toml::table>(i), fmt::format("{}.{}.", name, i), path, entries);
      }
      continue;
    }
    const toml::source_position at = key.source().begin;
    entries.push_back({.key = name,
                       .value = to_json(node),
                       .source = fmt::format("{}:{}:{}", path.string(), at.line, at.column),
                       .folder = path.parent_path(),
                       .line = at.line,
                       .column = at.column});
  }
}

void put(std::vector<ConfigEntry>& entries, ConfigEntry entry) {
  const auto same = std::find_if(entries.begin(), entries.end(),
                                 [&](const ConfigEntry& e) { return e.key == entry.key; });
  if (same == entries.end()) {
    entries.push_back(std::move(entry));
  } else {
    *same = std::move(entry);
  }
}

ConfigEntry parse_setting(const std::string& setting) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw io::Error(
        io::ErrorKind::usage,
        fmt::format("--set {}: write it as key=value, for example --set train.epochs=3", setting));
  }
  ConfigEntry entry{.key = setting.substr(0, equals),
                    .value = {},
                    .source = "--set",
                    .folder = std::filesystem::current_path()};
  const std::string text = setting.substr(equals + 1);
  try {
    const toml::table parsed = toml::parse("x = " + text);
    entry.value = to_json(*parsed.get("x"));
  } catch (const toml::parse_error&) {
    // The shell has eaten the quotes: a bare word is a string.
    entry.value = text;
  }
  return entry;
}

std::vector<ConfigEntry> read_with_includes(const std::filesystem::path& path, int depth) {
  constexpr int kDeepest = 8;
  if (depth > kDeepest) throw config_error(fmt::format("{}: includes itself", path.string()));
  if (!std::filesystem::is_regular_file(path)) {
    throw config_error(fmt::format("{} is no file", path.string()));
  }
  std::vector<ConfigEntry> own =
      parse_config(io::read_file(path), std::filesystem::absolute(path).lexically_normal());
  std::vector<ConfigEntry> included;
  for (const ConfigEntry& entry : own) {
    if (entry.key != "include") continue;
    if (!entry.value.is_string()) {
      throw config_error(fmt::format("{}: include must be a path in quotes", entry.source));
    }
    included = read_with_includes(entry.folder / entry.value.get<std::string>(), depth + 1);
  }
  std::erase_if(own, [](const ConfigEntry& entry) { return entry.key == "include"; });
  return merged(std::move(included), std::move(own));
}

}  // namespace

std::vector<ConfigEntry> merged(std::vector<ConfigEntry> below, std::vector<ConfigEntry> above) {
  for (ConfigEntry& entry : above) put(below, std::move(entry));
  return below;
}

std::vector<ConfigEntry> read_site_file() {
  const auto named = environment_variable("HADAL_SITE");
  const std::filesystem::path path = named.value_or("/etc/hadal/site.toml");
  if (path.empty() || (!named && !std::filesystem::exists(path))) return {};
  std::vector<ConfigEntry> entries = read_config_file(path, {});
  for (const ConfigEntry& entry : entries) {
    if (entry.key.starts_with("job.")) continue;
    throw config_error(
        fmt::format("{}: a site's file sets keys of [job] alone, not {}", entry.source, entry.key));
  }
  return entries;
}

std::vector<ConfigEntry> parse_config(const std::string& text, const std::filesystem::path& path) {
  std::vector<ConfigEntry> entries;
  try {
    flatten(toml::parse(text, path.string()), "", path, entries);
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    throw config_error(fmt::format("{}:{}:{}: {}", path.string(), at.line, at.column,
                                   std::string_view(error.description())));
  }
  // The parser sorts keys by name; people expect the order in which they wrote them.
  std::stable_sort(entries.begin(), entries.end(), [](const ConfigEntry& a, const ConfigEntry& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return entries;
}

std::vector<ConfigEntry> read_config_file(const std::filesystem::path& path,
                                          const std::vector<std::string>& settings) {
  std::vector<ConfigEntry> entries = read_with_includes(path, 0);
  for (const std::string& setting : settings) put(entries, parse_setting(setting));
  return entries;
}

}  // namespace hadal::launch
