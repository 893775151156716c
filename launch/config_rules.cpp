#include "launch/config_rules.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>

#include "engine/metric.hpp"
#include "engine/model.hpp"
#include "io/error.hpp"

namespace hadal::launch {
namespace {

struct Rules {
  LoadedConfig& config;
  std::vector<std::string> faults;

  void check(const std::filesystem::path& path) {
    engine::RunConfig& run = config.run;
    const bool both =
        config.find("train.epochs") != nullptr && config.find("train.steps") != nullptr;
    if (both || run.train.length.value == 0) {
      faults.push_back(both ? "train.epochs and train.steps are both set; keep one"
                            : "train.epochs or train.steps is missing: the length of the run");
    }
    if (run.train.micro_batch > 0 && run.train.global_batch % run.train.micro_batch != 0) {
      faults.push_back(
          fmt::format("train.global_batch = {} is no multiple of train.micro_batch = {}",
                      run.train.global_batch, run.train.micro_batch));
    }
    check_wire();
    check_mixing();
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
    for (const io::FieldOptions& field : fields) check_rows(field);
    settle_terms();
    check_best();
    for (engine::TermOptions& term : run.objective.terms) check_term(term);
    const ResolvedKey* betas = config.find("optimizer.betas");
    if (betas != nullptr && betas->value.size() != 2) {
      faults.push_back(
          fmt::format("{}: optimizer.betas must be a list of two numbers", betas->source));
    }
    for (const double beta : {run.optimizer.beta1, run.optimizer.beta2}) {
      if (beta < 0 || beta >= 1) faults.push_back("optimizer.betas must be at least 0 and below 1");
    }
    for (const engine::GroupOptions& group : run.optimizer.groups) {
      if (!group.until || group.freeze) continue;
      faults.push_back(fmt::format(
          "optimizer.group.{}.until says when freeze ends; set freeze = true with it", group.name));
    }
    if (run.optimizer.nesterov && run.optimizer.momentum == 0) {
      faults.push_back("optimizer.nesterov needs optimizer.momentum");
    }
  }

  // One way to count what a dataset holds.
  void check_rows(const io::FieldOptions& field) {
    const int ways = static_cast<int>(field.one_sample) + static_cast<int>(field.series) +
                     static_cast<int>(!field.offsets.empty()) +
                     static_cast<int>(!field.lengths.empty());
    if (ways > 1) {
      faults.push_back(fmt::format(
          "\"{}\": one_sample, series, offsets and lengths exclude each other", field.name));
    }
    if (field.is_ragged() && field.window_rows == 0) {
      faults.push_back(
          fmt::format("\"{}\" has samples of different lengths; set window = [0, rows] to the rows "
                      "that each is "
                      "cut or filled up to",
                      field.name));
    }
  }

  void check_wire() {
    const engine::TrainOptions& train = config.run.train;
    if (train.wire == engine::Wire::float32 || train.micro_batch <= 0) return;
    if (train.order == engine::SumOrder::fast) {
      faults.push_back(
          "train.order = \"fast\" leaves the sum to the MPI library, in float32; keep it or "
          "train.wire = \"bfloat16\"");
    }
    if (train.precision == engine::Precision::float16) {
      faults.push_back(
          "train.precision = \"float16\" scales gradients anew from time to time, and what "
          "train.wire = \"bfloat16\" leaves out would keep the old scale; take one of them");
    }
    const std::int64_t micro_batches = train.global_batch / train.micro_batch;
    const auto parts = static_cast<std::uint64_t>(train.wire_parts);
    if (!std::has_single_bit(parts) || train.wire_parts > micro_batches) {
      faults.push_back(
          fmt::format("train.wire_parts = {} must be a power of two, and at most the {} "
                      "micro-batches of a step",
                      train.wire_parts, micro_batches));
    }
  }

  void check_mixing() {
    const auto mixes = [](const io::FieldOptions& field) {
      return std::any_of(field.augment.begin(), field.augment.end(),
                         [](const io::Transform& t) { return io::is_mixing(t.kind); });
    };
    const auto& fields = config.run.data.fields;
    if (std::none_of(fields.begin(), fields.end(), mixes)) return;
    if (config.run.train.micro_batch == 1) {
      faults.push_back(
          "mixup and cutmix mix the samples of a micro-batch; train.micro_batch = 1 has no two");
    }
    for (const engine::TermOptions& term : config.run.objective.terms) {
      if (term.loss.kind == engine::LossKind::dice) {
        faults.push_back("the loss \"dice\" takes no mixed targets; leave out mixup and cutmix");
      }
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
    for (const auto& [name, value] : model.options) {
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
    const std::optional<std::int64_t> classes = engine::classes_of(model);
    if (!classes) {
      faults.push_back(
          "model.options.classes is missing: the number of classes, for cross_entropy");
      return;
    }
    field.classes = *classes;
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
      const ResolvedKey* dtype = config.find("data.targets." + field.name + ".dtype");
      const bool given = dtype != nullptr && dtype->source != "default";
      if (!classes && !dice && !given) {
        field.dtype = io::DType::f32;
        for (ResolvedKey& key : config.keys) {
          if (&key == dtype) key.value = "float32";
        }
        run.identity["data.targets." + field.name + ".dtype"] = R"("float32")";
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
};

}  // namespace

std::vector<std::string> check_together(LoadedConfig& config, const std::filesystem::path& path) {
  Rules rules{config, {}};
  rules.check(path);
  return rules.faults;
}

}  // namespace hadal::launch
