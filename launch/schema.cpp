#include "launch/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "engine/model.hpp"

namespace hadal::launch {
namespace {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

ValueType integer(double least, double most = std::numeric_limits<double>::infinity()) {
  return {.kind = Kind::integer, .choices = {}, .least = least, .most = most};
}
ValueType number(double least, double most = std::numeric_limits<double>::infinity()) {
  return {.kind = Kind::number, .choices = {}, .least = least, .most = most};
}
ValueType positive() {
  return {.kind = Kind::number, .choices = {}, .least = 0, .above_least = true};
}
ValueType choice(std::vector<std::string> choices) {
  return {.kind = Kind::choice, .choices = std::move(choices)};
}
ValueType plain(Kind kind) { return {.kind = kind, .choices = {}}; }

template <class Enum>
Enum pick(const json& value, const std::map<std::string, Enum>& table) {
  return table.at(value.get<std::string>());
}

std::vector<std::string> as_list(const json& value) {
  return value.is_array() ? value.get<std::vector<std::string>>()
                          : std::vector<std::string>{value.get<std::string>()};
}
std::vector<double> as_numbers(const json& value) {
  return value.is_array() ? value.get<std::vector<double>>()
                          : std::vector<double>{value.get<double>()};
}

io::FieldOptions& field(RunConfig& config, io::FieldRole role, const std::string& name) {
  for (io::FieldOptions& existing : config.data.fields) {
    if (existing.role == role && existing.name == name) return existing;
  }
  io::FieldOptions made;
  made.name = name;
  made.role = role;
  config.data.fields.push_back(made);
  return config.data.fields.back();
}

class Table {
 public:
  Table() {
    run();
    data();
    fields("data.inputs.*", io::FieldRole::input, "float32");
    fields("data.targets.*", io::FieldRole::target, "int64");
    model();
    objective();
    train();
    optimizer();
    schedule();
    checkpoint();
  }
  std::vector<KeySpec> rows;

 private:
  using Apply = std::function<void(RunConfig&, const std::string&, const json&)>;
  enum class Bound { free, identity };

  KeySpec& add(std::string key, ValueType type, json otherwise, Bound bound, std::string help,
               Apply apply) {
    rows.push_back({.key = std::move(key),
                    .type = std::move(type),
                    .otherwise = std::move(otherwise),
                    .identity = bound == Bound::identity,
                    .help = std::move(help),
                    .apply = std::move(apply)});
    return rows.back();
  }
  // For keys without a name in them.
  KeySpec& set(std::string key, ValueType type, json otherwise, Bound bound, std::string help,
               std::function<void(RunConfig&, const json&)> apply) {
    return add(std::move(key), std::move(type), std::move(otherwise), bound, std::move(help),
               [apply = std::move(apply)](RunConfig& c, const std::string&, const json& v) {
                 apply(c, v);
               });
  }

  void run();
  void data();
  void fields(const std::string& prefix, io::FieldRole role, const char* dtype);
  void model();
  void objective();
  void train();
  void optimizer();
  void schedule();
  void checkpoint();
};

void Table::run() {
  set("run.name", plain(Kind::text), nullptr, Bound::free,
      "Name of the run; the config file's stem.",
      [](RunConfig& c, const json& v) { c.run.name = v; });
  set("run.dir", plain(Kind::path), nullptr, Bound::free,
      "The run folder; runs/<name> beside the config file.",
      [](RunConfig& c, const json& v) { c.run.dir = v.get<std::string>(); });
  set("run.seed", integer(0), 0, Bound::identity, "Seed of everything random.",
      [](RunConfig& c, const json& v) { c.run.seed = v.get<std::uint64_t>(); });
  set("run.device", choice({"auto", "cpu"}), "auto", Bound::free,
      "Where to compute; this build has the CPU only.", [](RunConfig&, const json&) {});
  set("run.threads", integer(1, 1024), 1, Bound::identity,
      "Cores of one worker's operators. Another number gives other bits.",
      [](RunConfig& c, const json& v) { c.run.threads = v; });
  set("run.workers", integer(0, 4096), 0, Bound::free,
      "Workers of a rank; 0: as many as its cores and memory hold. Changes no bit.",
      [](RunConfig& c, const json& v) { c.run.workers = v; });
  set("run.isa", choice({"native", "avx2", "avx512"}), "native", Bound::identity,
      "Vector extensions to use; pin them to keep the bits over mixed nodes.",
      [](RunConfig& c, const json& v) { c.run.isa = v; });
  set("run.on_processor_change", choice({"warn", "stop"}), "warn", Bound::free,
      "When a run goes on where the arithmetic gives other bits.", [](RunConfig& c, const json& v) {
        c.run.on_processor_change = pick<engine::OnProcessorChange>(
            v,
            {{"warn", engine::OnProcessorChange::warn}, {"stop", engine::OnProcessorChange::stop}});
      });
}

void Table::data() {
  set("data.train", plain(Kind::paths), nullptr, Bound::free, "Training files: paths or patterns.",
      [](RunConfig& c, const json& v) { c.data.train = as_list(v); })
      .required = true;
  set("data.valid", plain(Kind::paths), nullptr, Bound::free, "Validation files.",
      [](RunConfig& c, const json& v) { c.data.valid = as_list(v); });
  set("data.test", plain(Kind::paths), nullptr, Bound::free, "Test files.",
      [](RunConfig& c, const json& v) { c.data.test = as_list(v); });
  set("data.group.train", plain(Kind::text), nullptr, Bound::identity,
      "HDF5 group that holds the training datasets, where one file holds several splits.",
      [](RunConfig& c, const json& v) { c.data.train_group = v; });
  set("data.group.valid", plain(Kind::text), nullptr, Bound::identity, "The same for validation.",
      [](RunConfig& c, const json& v) { c.data.valid_group = v; });
  set("data.group.test", plain(Kind::text), nullptr, Bound::identity, "The same for test.",
      [](RunConfig& c, const json& v) { c.data.test_group = v; });
  set("data.shuffle", choice({"auto", "full", "block", "none"}), "auto", Bound::identity,
      "Order of samples: a full permutation, blocks of rows mixed in windows, or as stored.",
      [](RunConfig& c, const json& v) {
        using S = engine::ShuffleChoice;
        c.data.shuffle = pick<S>(
            v, {{"auto", S::automatic}, {"full", S::full}, {"block", S::block}, {"none", S::none}});
      });
  set("data.block", integer(1), 64, Bound::identity, "Rows of a block where files have no chunks.",
      [](RunConfig& c, const json& v) { c.data.block = v; });
  set("data.window", integer(0), 0, Bound::identity,
      "Blocks that a stream mixes at a time; 0: a tenth of the stream, at least 8.",
      [](RunConfig& c, const json& v) { c.data.window = v; });
  set("data.memory", plain(Kind::size), "1GiB", Bound::free, "Cache for data blocks of a rank.",
      [](RunConfig& c, const json& v) { c.data.batch.memory_bytes = *parse_size(v); });
  set("data.drop_last", plain(Kind::boolean), true, Bound::identity,
      "Leave out the samples that do not fill a last step.",
      [](RunConfig& c, const json& v) { c.data.drop_last = v; });
  set("data.check_finite", choice({"batch", "off"}), "batch", Bound::free,
      "Look for NaN and infinity in every batch.", [](RunConfig& c, const json& v) {
        c.data.batch.check_finite = pick<io::CheckFinite>(
            v, {{"batch", io::CheckFinite::batch}, {"off", io::CheckFinite::off}});
      });
  set("data.on_bad_sample", choice({"stop", "skip"}), "stop", Bound::identity,
      "Stop at a sample with such values, or leave it out.", [](RunConfig& c, const json& v) {
        c.data.batch.on_bad_sample = pick<io::OnBadSample>(
            v, {{"stop", io::OnBadSample::stop}, {"skip", io::OnBadSample::skip}});
      });
}

void Table::fields(const std::string& prefix, io::FieldRole role, const char* dtype) {
  const auto each = [&](const std::string& key, ValueType type, json otherwise, Bound bound,
                        const std::string& help, void (*apply)(io::FieldOptions&, const json&)) {
    add(prefix + "." + key, std::move(type), std::move(otherwise), bound, help,
        [role, apply](RunConfig& c, const std::string& name, const json& v) {
          apply(field(c, role, name), v);
        });
  };
  each("path", plain(Kind::text), nullptr, Bound::identity, "Dataset inside the files.",
       [](io::FieldOptions& f, const json& v) { f.path = v; });
  rows.back().required = true;
  each("file", plain(Kind::paths), nullptr, Bound::free, "Its own files, where they are others.",
       [](io::FieldOptions& f, const json& v) { f.files = as_list(v); });
  each(
      "dtype", choice({"float32", "int64"}), dtype, Bound::identity,
      "Type in the batch; conversions lose nothing but the rounding of float64.",
      [](io::FieldOptions& f, const json& v) { f.dtype = *io::dtype_named(v.get<std::string>()); });
  each("layout", plain(Kind::text), nullptr, Bound::identity,
       "How a stored batch's axes are ordered, \"NHWC\"; channels are put first.",
       [](io::FieldOptions& f, const json& v) { f.layout = v; });
  each("scale", plain(Kind::number), nullptr, Bound::identity, "Multiplies the values first.",
       [](io::FieldOptions& f, const json& v) { f.scale = v.get<double>(); });
  each("mean", plain(Kind::numbers), nullptr, Bound::identity,
       "Subtracted after the scale: one number or one a channel.",
       [](io::FieldOptions& f, const json& v) { f.mean = as_numbers(v); });
  each("std", plain(Kind::numbers), nullptr, Bound::identity,
       "Divides last: one number or one a channel.",
       [](io::FieldOptions& f, const json& v) { f.std = as_numbers(v); });
  if (role == io::FieldRole::target) {
    each("one_hot", plain(Kind::boolean), false, Bound::identity,
         "Stored one-hot; becomes the class index.",
         [](io::FieldOptions& f, const json& v) { f.one_hot = v; });
  }
}

void Table::model() {
  set("model.kind", choice(engine::model_kinds()), nullptr, Bound::identity, "A model of the zoo.",
      [](RunConfig& c, const json& v) { c.model.kind = v; })
      .required = true;
  add("model.options.*", plain(Kind::any), nullptr, Bound::identity,
      "Options of the model: classes, hidden, channels, dropout.",
      [](RunConfig& c, const std::string& name, const json& v) { c.model.options[name] = v; });
  set("model.weights", plain(Kind::path), nullptr, Bound::free,
      "First weights, a safetensors file; unset: from the seed.",
      [](RunConfig& c, const json& v) { c.model.weights = v; });
  set("model.strict", plain(Kind::boolean), true, Bound::free,
      "The names of the weights must match the model's both ways.",
      [](RunConfig& c, const json& v) { c.model.strict = v; });
}

void Table::objective() {
  set("objective.loss", choice({"cross_entropy", "mse", "mae", "huber", "binary_cross_entropy"}),
      "cross_entropy", Bound::identity, "The loss; binary_cross_entropy takes logits.",
      [](RunConfig& c, const json& v) {
        using L = engine::LossKind;
        c.objective.loss = pick<L>(v, {{"cross_entropy", L::cross_entropy},
                                       {"mse", L::mean_squared_error},
                                       {"mae", L::mean_absolute_error},
                                       {"huber", L::huber},
                                       {"binary_cross_entropy", L::binary_cross_entropy}});
      });
  set("objective.label_smoothing", number(0, 1), 0.0, Bound::identity, "Of cross_entropy.",
      [](RunConfig& c, const json& v) { c.objective.label_smoothing = v; });
  set("objective.huber_delta", positive(), 1.0, Bound::identity, "Where huber turns linear.",
      [](RunConfig& c, const json& v) { c.objective.huber_delta = v; });
  set("objective.class_weights", plain(Kind::numbers), nullptr, Bound::identity,
      "One weight a class, for cross_entropy.",
      [](RunConfig& c, const json& v) { c.objective.class_weights = as_numbers(v); });
  set("objective.ignore_index", plain(Kind::integer), -100, Bound::identity,
      "The label that counts for nothing.",
      [](RunConfig& c, const json& v) { c.objective.ignore_index = v; });
  set("objective.metrics", plain(Kind::texts), json::array(), Bound::free,
      "Of evaluation: accuracy, top<k>_accuracy, mae, rmse, r2.",
      [](RunConfig& c, const json& v) { c.objective.metrics = as_list(v); });
  set("objective.best", plain(Kind::text), "valid.loss", Bound::identity,
      "What makes a model the best, \"valid.\" and a metric.",
      [](RunConfig& c, const json& v) { c.objective.best = v; });
  set("objective.patience", integer(0), 0, Bound::identity,
      "Evaluations without a better value before the run ends early; 0: never.",
      [](RunConfig& c, const json& v) { c.objective.patience = v; });
}

void Table::train() {
  set("train.epochs", positive(), nullptr, Bound::identity,
      "Length of the run; this or train.steps.", [](RunConfig& c, const json& v) {
        c.train.length = {v.get<double>(), engine::Span::Unit::epochs};
      });
  set("train.steps", integer(1), nullptr, Bound::identity,
      "Length of the run; this or train.epochs.", [](RunConfig& c, const json& v) {
        c.train.length = {v.get<double>(), engine::Span::Unit::steps};
      });
  set("train.global_batch", integer(1), nullptr, Bound::identity,
      "Samples of one optimizer step, of the whole job.",
      [](RunConfig& c, const json& v) { c.train.global_batch = v; })
      .required = true;
  set("train.micro_batch", integer(1), nullptr, Bound::identity,
      "Samples of one forward and backward; divides global_batch.",
      [](RunConfig& c, const json& v) { c.train.micro_batch = v; })
      .required = true;
  set("train.clip_norm", positive(), nullptr, Bound::identity, "Largest norm of the gradient.",
      [](RunConfig& c, const json& v) { c.train.clip_norm = v.get<double>(); });
  set("train.on_nonfinite", choice({"stop", "skip"}), "stop", Bound::identity,
      "Stop at a step whose loss or gradient is not finite, or leave the step out.",
      [](RunConfig& c, const json& v) {
        c.train.on_nonfinite = pick<engine::OnNonFinite>(
            v, {{"stop", engine::OnNonFinite::stop}, {"skip", engine::OnNonFinite::skip}});
      });
  set("train.evaluate_every", plain(Kind::span), "1ep", Bound::identity,
      "Between evaluations of the validation data.",
      [](RunConfig& c, const json& v) { c.train.evaluate_every = *parse_span(v); });
}

void Table::optimizer() {
  set("optimizer.kind", choice({"sgd", "adamw"}), nullptr, Bound::identity, "The update rule.",
      [](RunConfig& c, const json& v) {
        c.optimizer.kind = pick<engine::OptimizerKind>(
            v, {{"sgd", engine::OptimizerKind::sgd}, {"adamw", engine::OptimizerKind::adamw}});
      })
      .required = true;
  set("optimizer.lr", positive(), nullptr, Bound::identity,
      "Learning rate, never scaled by the number of ranks.",
      [](RunConfig& c, const json& v) { c.optimizer.lr = v; })
      .required = true;
  set("optimizer.momentum", number(0, 1), 0.0, Bound::identity, "Of sgd.",
      [](RunConfig& c, const json& v) { c.optimizer.momentum = v; });
  set("optimizer.nesterov", plain(Kind::boolean), false, Bound::identity, "Of sgd.",
      [](RunConfig& c, const json& v) { c.optimizer.nesterov = v; });
  set("optimizer.betas", plain(Kind::numbers), json::array({0.9, 0.999}), Bound::identity,
      "Of adamw.", [](RunConfig& c, const json& v) {
        const std::vector<double> betas = as_numbers(v);
        c.optimizer.beta1 = betas.front();
        c.optimizer.beta2 = betas.back();
      });
  set("optimizer.eps", positive(), 1e-8, Bound::identity, "Of adamw.",
      [](RunConfig& c, const json& v) { c.optimizer.eps = v; });
  set("optimizer.weight_decay", number(0), 0.0, Bound::identity,
      "Pull towards zero: decoupled for adamw, in the gradient for sgd.",
      [](RunConfig& c, const json& v) { c.optimizer.weight_decay = v; });
  set("optimizer.no_decay", plain(Kind::texts), nullptr, Bound::identity,
      "Globs of parameters without decay; unset: all with fewer than two axes (norms and biases).",
      [](RunConfig& c, const json& v) { c.optimizer.no_decay = as_list(v); });
}

void Table::schedule() {
  set("schedule.kind", choice({"constant", "step", "cosine", "polynomial", "one_cycle"}),
      "constant", Bound::identity, "How the learning rate moves.", [](RunConfig& c, const json& v) {
        using S = engine::ScheduleKind;
        c.schedule.kind = pick<S>(v, {{"constant", S::constant},
                                      {"step", S::step},
                                      {"cosine", S::cosine},
                                      {"polynomial", S::polynomial},
                                      {"one_cycle", S::one_cycle}});
      });
  set("schedule.warmup", plain(Kind::span), 0, Bound::identity, "Linear rise at the start.",
      [](RunConfig& c, const json& v) { c.schedule.warmup = *parse_span(v); });
  set("schedule.floor", number(0, 1), 0.0, Bound::identity, "Smallest factor of the learning rate.",
      [](RunConfig& c, const json& v) { c.schedule.floor = v; });
  set("schedule.milestones", plain(Kind::spans), json::array(), Bound::identity, "Of step.",
      [](RunConfig& c, const json& v) {
        for (const json& one : v) c.schedule.milestones.push_back(*parse_span(one));
      });
  set("schedule.gamma", positive(), 0.1, Bound::identity, "Factor at each milestone of step.",
      [](RunConfig& c, const json& v) { c.schedule.gamma = v; });
  set("schedule.power", positive(), 1.0, Bound::identity, "Of polynomial.",
      [](RunConfig& c, const json& v) { c.schedule.power = v; });
}

void Table::checkpoint() {
  set("checkpoint.every", plain(Kind::interval), "auto", Bound::free,
      "A length, a time, or auto: so seldom that saving takes at most 2 % of the time.",
      [](RunConfig& c, const json& v) {
        if (v == "auto") return;
        if (const auto span = parse_span(v)) {
          c.checkpoint.every = span;
        } else {
          c.checkpoint.every = engine::Span{*parse_duration(v), engine::Span::Unit::seconds};
        }
      });
  set("checkpoint.keep", integer(1), 3, Bound::free, "Checkpoints that stay.",
      [](RunConfig& c, const json& v) { c.checkpoint.keep = v; });
  set("log.every", plain(Kind::duration), "5s", Bound::free, "Time between progress lines.",
      [](RunConfig& c, const json& v) { c.log_every_seconds = *parse_duration(v); });
}

}  // namespace

const std::vector<KeySpec>& schema() {
  static const Table table;
  return table.rows;
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
      at = part == "*" ? &(*at)["additionalProperties"] : &(*at)["properties"][part];
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
