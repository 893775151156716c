#include "launch/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/objective.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/nearest.hpp"
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
      row->apply(config.run, name, value);
      keep(*row, entry.key, value, entry.source);
    } catch (const io::Error& error) {
      faults.push_back(fmt::format("{}: {}: {}", entry.source, entry.key, error.what()));
    }
  }

  void keep(const KeySpec& row, const std::string& key, const json& value,
            const std::string& source) {
    config.keys.push_back({key, value, source, row.identity});
    if (row.identity) config.run.identity[key] = value;
  }

  const ResolvedKey* find(const std::string& key) const {
    const auto it = std::find_if(config.keys.begin(), config.keys.end(),
                                 [&](const ResolvedKey& k) { return k.key == key; });
    return it == config.keys.end() ? nullptr : &*it;
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
    if (find(key) != nullptr) return;
    if (row.required) {
      faults.push_back(fmt::format("{} is missing: {}", key, row.help));
    } else if (!row.otherwise.is_null()) {
      row.apply(config.run, name, row.otherwise);
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
        if (row.key != "model.options.*")
          take_default(row, prefix + name + row.key.substr(star + 1), name);
      }
    }
  }

  // What needs more than one key.
  void check_together(const std::filesystem::path& path) {
    engine::RunConfig& run = config.run;
    const bool both = find("train.epochs") != nullptr && find("train.steps") != nullptr;
    if (both || run.train.length.value == 0) {
      faults.push_back(both ? "train.epochs and train.steps are both set; keep one"
                            : "train.epochs or train.steps is missing: the length of the run");
    }
    if (run.train.micro_batch > 0 && run.train.global_batch % run.train.micro_batch != 0) {
      faults.push_back(
          fmt::format("train.global_batch = {} is no multiple of train.micro_batch = {}",
                      run.train.global_batch, run.train.micro_batch));
    }
    auto& fields = run.data.fields;
    for (const auto role : {io::FieldRole::input, io::FieldRole::target}) {
      const char* what = role == io::FieldRole::input ? "inputs" : "targets";
      const auto count = std::count_if(fields.begin(), fields.end(),
                                       [&](const io::FieldOptions& f) { return f.role == role; });
      if (count != 1) {
        faults.push_back(
            fmt::format("[data.{}.NAME] must be there once with the path of its dataset; "
                        "there are {}",
                        what, count));
      }
    }
    std::stable_sort(fields.begin(), fields.end(),
                     [](const auto& a, const auto& b) { return a.role < b.role; });
    if (run.run.name.empty()) run.run.name = path.stem().string();
    if (run.run.dir.empty()) {
      run.run.dir = std::filesystem::absolute(path).parent_path() / "runs" / run.run.name;
    }
    for (const std::string& metric : run.objective.metrics) {
      if (!engine::is_metric(metric)) {
        faults.push_back(
            fmt::format("objective.metrics: \"{}\" is not known; known are accuracy, "
                        "top<k>_accuracy, mae, rmse, r2",
                        metric));
      }
    }
    const std::string best = run.objective.best;
    const bool known = best == "valid.loss" ||
                       std::any_of(run.objective.metrics.begin(), run.objective.metrics.end(),
                                   [&](const std::string& m) { return best == "valid." + m; });
    if (!known) {
      faults.push_back(
          fmt::format("objective.best = \"{}\" must be \"valid.loss\" or \"valid.\" and one "
                      "of objective.metrics",
                      best));
    }
    check_loss();
    const ResolvedKey* betas = find("optimizer.betas");
    if (betas != nullptr && betas->value.size() != 2) {
      faults.push_back(
          fmt::format("{}: optimizer.betas must be a list of two numbers", betas->source));
    }
    for (const double beta : {run.optimizer.beta1, run.optimizer.beta2}) {
      if (beta < 0 || beta >= 1) faults.push_back("optimizer.betas must be at least 0 and below 1");
    }
    if (run.optimizer.nesterov && run.optimizer.momentum == 0) {
      faults.push_back("optimizer.nesterov needs optimizer.momentum");
    }
  }

  // The target's type and range follow from the loss.
  void check_loss() {
    engine::RunConfig& run = config.run;
    const bool classes = run.objective.loss == engine::LossKind::cross_entropy;
    for (io::FieldOptions& field : run.data.fields) {
      if (field.role != io::FieldRole::target) continue;
      const ResolvedKey* dtype = find("data.targets." + field.name + ".dtype");
      const bool given = dtype != nullptr && dtype->source != "default";
      if (!classes && !given) {
        field.dtype = io::DType::f32;
        for (ResolvedKey& key : config.keys) {
          if (&key == dtype) key.value = "float32";
        }
        run.identity["data.targets." + field.name + ".dtype"] = "float32";
      }
      if (classes != (field.dtype == io::DType::i64)) {
        faults.push_back(fmt::format("data.targets.{}.dtype must be \"{}\" for this loss",
                                     field.name, classes ? "int64" : "float32"));
      }
      if (!classes) continue;
      field.ignore_index = run.objective.ignore_index;
      const json& options = run.model.options;
      if (!options.contains("classes") || !options["classes"].is_number_integer() ||
          options["classes"].get<std::int64_t>() < 1) {
        faults.push_back(
            "model.options.classes is missing: the number of classes, for cross_entropy");
        return;
      }
      field.classes = options["classes"].get<std::int64_t>();
      if (!run.objective.class_weights.empty() &&
          static_cast<std::int64_t>(run.objective.class_weights.size()) != field.classes) {
        faults.push_back(fmt::format("objective.class_weights has {} values for {} classes",
                                     run.objective.class_weights.size(), field.classes));
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
std::string toml_text(const json& value) { return value.dump(); }

}  // namespace

LoadedConfig resolve(const std::vector<ConfigEntry>& entries, const std::filesystem::path& path) {
  LoadedConfig config;
  Resolver resolver{config, {}};
  for (const ConfigEntry& entry : entries) resolver.take(entry);
  resolver.take_defaults();
  if (resolver.faults.empty()) resolver.check_together(path);
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
  LoadedConfig config = resolve(read_config_file(path, settings), path);
  config.text = io::read_file(path);
  return config;
}

std::string resolved_text(const LoadedConfig& config) {
  std::string text = "# Every key with its value and where it comes from.\n";
  for (const ResolvedKey& key : config.keys) {
    text += fmt::format("{} = {}  # {}\n", key.key, toml_text(key.value), key.source);
  }
  return text;
}

}  // namespace hadal::launch
