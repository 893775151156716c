#include "engine/weight_source.hpp"

#include <fmt/format.h>

#include <regex>
#include <set>

#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;
constexpr const char* kIndex = "model.safetensors.index.json";

std::string mapped(std::string name,
                   const std::vector<std::pair<std::string, std::string>>& key_map) {
  for (const auto& [expression, replacement] : key_map) {
    try {
      name = std::regex_replace(name, std::regex(expression), replacement);
    } catch (const std::regex_error& error) {
      throw io::Error(io::ErrorKind::config,
                      fmt::format("model.key_map: \"{}\" is no regular expression: {}", expression,
                                  error.what()));
    }
  }
  return name;
}

// The files that an index names, once each.
std::set<std::string> files_of_index(const fs::path& path) {
  const auto fail = [&] {
    return io::Error(io::ErrorKind::checkpoint,
                     fmt::format("{} is no index of safetensors files: it needs a weight_map from "
                                 "names to files",
                                 path.string()));
  };
  const auto index = io::parse_json(io::read_file(path));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw fail();
  }
  std::set<std::string> files;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string()) throw fail();
    files.insert(file.get<std::string>());
  }
  return files;
}

}  // namespace

WeightSource::WeightSource(const fs::path& given,
                           const std::vector<std::pair<std::string, std::string>>& key_map) {
  std::error_code ignored;
  fs::path path = given;
  if (fs::is_directory(path, ignored)) {
    path = fs::exists(given / kIndex, ignored) ? given / kIndex : given / "model.safetensors";
  }
  if (!fs::is_regular_file(path, ignored)) {
    throw io::Error(io::ErrorKind::checkpoint, fmt::format("{} is no file", path.string()));
  }
  if (path.extension() != ".json") {
    add_file(path, key_map);
    return;
  }
  for (const std::string& file : files_of_index(path)) add_file(path.parent_path() / file, key_map);
}

void WeightSource::add_file(const fs::path& path,
                            const std::vector<std::pair<std::string, std::string>>& key_map) {
  const io::SafetensorsHeader header = io::read_safetensors_header(path);
  files_.push_back(std::make_unique<File>(File{path, io::open_for_reading(path)}));
  for (const io::TensorEntry& entry : header.tensors) {
    const std::string name = mapped(entry.name, key_map);
    const auto [it, is_new] = places_.emplace(name, Place{files_.back().get(), entry});
    if (!is_new) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{}: {} and {} both become {}", path.string(),
                                  it->second.entry.name, entry.name, name));
    }
  }
}

const io::TensorEntry* WeightSource::find(const std::string& name) const {
  const auto it = places_.find(name);
  return it == places_.end() ? nullptr : &it->second.entry;
}

std::vector<std::string> WeightSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

std::vector<std::byte> WeightSource::read(const std::string& name) const {
  const Place& place = places_.at(name);
  std::vector<std::byte> bytes(static_cast<std::size_t>(place.entry.bytes()));
  io::read_at(place.file->fd.get(), bytes, place.entry.begin, place.file->path);
  return bytes;
}

}  // namespace hadal::engine
