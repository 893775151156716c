#include "launch/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/metric.hpp"
#include "engine/model.hpp"
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
    check_model();
    auto& fields = run.data.fields;
    for (const auto role : {io::FieldRole::input, io::FieldRole::target}) {
      const char* what = role == io::FieldRole::input ? "inputs" : "targets";
      const auto count = std::count_if(fields.begin(), fields.end(),
                                       [&](const io::FieldOptions& f) { return f.role == role; });
      if (count == 0) {
        faults.push_back(
            fmt::format("[data.{}.NAME] is missing: the dataset of each by its path", what));
      }
    }
    std::stable_sort(fields.begin(), fields.end(),
                     [](const auto& a, const auto& b) { return a.role < b.role; });
    if (run.run.name.empty()) run.run.name = path.stem().string();
    if (run.run.dir.empty()) {
      run.run.dir = std::filesystem::absolute(path).parent_path() / "runs" / run.run.name;
    }
    settle_terms();
    check_best();
    for (engine::TermOptions& term : run.objective.terms) check_term(term);
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

  void check_model() {
    const engine::ModelOptions& model = config.run.model;
    std::vector<std::string> given;
    if (!model.kind.empty()) given.push_back("model.kind");
    if (!model.program.empty()) given.push_back("model.program");
    if (!model.script.empty()) given.push_back("model.script");
    if (given.empty()) {
      faults.push_back("model.kind or model.program is missing: the model to train");
    } else if (given.size() > 1) {
      faults.push_back(fmt::format("{} are set; keep one", fmt::join(given, " and ")));
    }
    for (const auto& [name, value] : model.options.items()) {
      if (!model.kind.empty() || (!model.script.empty() && name == "classes")) continue;
      faults.push_back(fmt::format(
          "model.options.{} belongs to model.kind; other models have theirs inside", name));
    }
  }

  // [objective.terms.NAME] replace the short keys; each belongs to a target, in their order.
  void settle_terms() {
    engine::RunConfig& run = config.run;
    std::vector<engine::TermOptions>& terms = run.objective.terms;
    const std::vector<std::string> targets = engine::target_names(run.data);
    if (terms.size() == 1) {
      if (targets.size() > 1) {
        faults.push_back(
            fmt::format("there are {} targets; give each its loss: "
                        "[objective.terms.{}] and so on",
                        targets.size(), targets.front()));
      }
      return;
    }
    terms.erase(terms.begin());
    for (const ResolvedKey& key : config.keys) {
      const bool is_short = key.key.starts_with("objective.") && key.source != "default" &&
                            !key.key.starts_with("objective.terms.") &&
                            key.key != "objective.best" && key.key != "objective.patience";
      if (is_short) {
        faults.push_back(fmt::format("{}: {} and [objective.terms] are both set; keep one",
                                     key.source, key.key));
      }
    }
    const auto place = [&](const engine::TermOptions& term) {
      return std::find(targets.begin(), targets.end(), term.target) - targets.begin();
    };
    for (const engine::TermOptions& term : terms) {
      if (place(term) == std::ssize(targets)) {
        faults.push_back(
            fmt::format("objective.terms.{}: there is no data.targets.{}; the targets "
                        "are: {}",
                        term.target, term.target, fmt::join(targets, ", ")));
      }
    }
    std::stable_sort(terms.begin(), terms.end(),
                     [&](const auto& a, const auto& b) { return place(a) < place(b); });
  }

  void check_best() {
    const engine::ObjectiveOptions& objective = config.run.objective;
    std::vector<std::string> known{"valid.loss"};
    for (const engine::TermOptions& term : objective.terms) {
      const std::string prefix = term.target.empty() ? "" : term.target + ".";
      if (!prefix.empty() && objective.terms.size() > 1)
        known.push_back("valid." + prefix + "loss");
      for (const std::string& metric : term.metrics) {
        known.push_back("valid." + prefix + metric);
        if (!engine::is_metric(metric)) {
          faults.push_back(fmt::format("objective.metrics: \"{}\" is not known; known are {}",
                                       metric, fmt::join(engine::metric_names(), ", ")));
        }
      }
    }
    if (std::find(known.begin(), known.end(), objective.best) == known.end()) {
      faults.push_back(
          fmt::format("objective.best = \"{}\" must be \"valid.loss\" or \"valid.\" "
                      "and one of objective.metrics; here: {}",
                      objective.best, fmt::join(known, ", ")));
    }
  }

  // The classes that labels may have: a zoo model's option, or what the program says.
  void set_classes(io::FieldOptions& field, std::size_t output) {
    const engine::ModelOptions& model = config.run.model;
    if (!model.program.empty()) {
      field.scores = engine::program_output(model.program, output);
      return;
    }
    const auto found = model.options.find("classes");
    if (found == model.options.end() || !found->is_number_integer() ||
        found->get<std::int64_t>() < 1) {
      faults.push_back(
          "model.options.classes is missing: the number of classes, for cross_entropy");
      return;
    }
    field.classes = found->get<std::int64_t>();
  }

  // The target's type and range follow from the loss.
  void check_term(engine::TermOptions& term) {
    engine::RunConfig& run = config.run;
    std::size_t number = 0;
    for (io::FieldOptions& field : run.data.fields) {
      if (field.role != io::FieldRole::target) continue;
      const std::size_t place = number++;
      if (!term.target.empty() && field.name != term.target) continue;
      const bool dice = term.loss.kind == engine::LossKind::dice;
      const bool classes = term.loss.kind == engine::LossKind::cross_entropy;
      const ResolvedKey* dtype = find("data.targets." + field.name + ".dtype");
      const bool given = dtype != nullptr && dtype->source != "default";
      if (!classes && !dice && !given) {
        field.dtype = io::DType::f32;
        for (ResolvedKey& key : config.keys) {
          if (&key == dtype) key.value = "float32";
        }
        run.identity["data.targets." + field.name + ".dtype"] = "float32";
      }
      if (!dice && classes != (field.dtype == io::DType::i64)) {
        faults.push_back(fmt::format("data.targets.{}.dtype must be \"{}\" for this loss",
                                     field.name, classes ? "int64" : "float32"));
      }
      term.loss.class_targets = field.dtype == io::DType::i64;
      if (!term.loss.class_targets) continue;
      field.ignore_index = term.loss.ignore_index;
      set_classes(field, term.output.value_or(place));
      if (field.classes > 0 && !term.loss.class_weights.empty() &&
          static_cast<std::int64_t>(term.loss.class_weights.size()) != field.classes) {
        faults.push_back(fmt::format("objective.class_weights has {} values for {} classes",
                                     term.loss.class_weights.size(), field.classes));
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
