#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using engine::TermOptions;
using nlohmann::json;
using Kind = ValueKind;

namespace {

// The term of a target; the first one, without a target, is what the short keys describe.
TermOptions& term(RunConfig& config, const std::string& target) {
  for (TermOptions& existing : config.objective.terms) {
    if (existing.target == target) return existing;
  }
  config.objective.terms.push_back({.target = target});
  return config.objective.terms.back();
}

// The keys of one loss, under `prefix`.
void add_loss(Table& table, const std::string& prefix) {
  const auto each = [&](const std::string& key, ValueType type, json otherwise, Bound bound,
                        const std::string& help, void (*apply)(TermOptions&, const json&)) {
    table.add(
        prefix + key, std::move(type), std::move(otherwise), bound, help,
        [apply](RunConfig& c, const std::string& name, const json& v) { apply(term(c, name), v); });
  };
  each("loss", choice({"cross_entropy", "mse", "mae", "huber", "binary_cross_entropy", "dice"}),
       "cross_entropy", Bound::identity, "The loss; binary_cross_entropy and dice take logits.",
       [](TermOptions& t, const json& v) {
         using L = engine::LossKind;
         t.loss.kind = pick<L>(v, {{"cross_entropy", L::cross_entropy},
                                   {"mse", L::mean_squared_error},
                                   {"mae", L::mean_absolute_error},
                                   {"huber", L::huber},
                                   {"binary_cross_entropy", L::binary_cross_entropy},
                                   {"dice", L::dice}});
       });
  each("label_smoothing", number(0, 1), 0.0, Bound::identity, "Of cross_entropy.",
       [](TermOptions& t, const json& v) { t.loss.label_smoothing = v; });
  each("huber_delta", positive(), 1.0, Bound::identity, "Where huber turns linear.",
       [](TermOptions& t, const json& v) { t.loss.huber_delta = v; });
  each("class_weights", plain(Kind::numbers), nullptr, Bound::identity,
       "One weight a class, for cross_entropy.",
       [](TermOptions& t, const json& v) { t.loss.class_weights = as_numbers(v); });
  each("ignore_index", plain(Kind::integer), -100, Bound::identity,
       "The label that counts for nothing.",
       [](TermOptions& t, const json& v) { t.loss.ignore_index = v; });
  each("output", integer(0), nullptr, Bound::identity,
       "Which of the model's outputs, from 0; unset: the target's own place.",
       [](TermOptions& t, const json& v) { t.output = v.get<std::size_t>(); });
  each("metrics", plain(Kind::texts), json::array(), Bound::free,
       "Of evaluation: accuracy, top<k>_accuracy, f1_macro, f1_micro, iou, confusion, auroc, "
       "perplexity, mae, rmse, r2.",
       [](TermOptions& t, const json& v) { t.metrics = as_list(v); });
}

}  // namespace

void add_objective(Table& table) {
  add_loss(table, "objective.");
  add_loss(table, "objective.terms.*.");
  table.add("objective.terms.*.weight", positive(), 1.0, Bound::identity,
            "Factor of this target's loss in the sum.",
            [](RunConfig& c, const std::string& name, const json& v) { term(c, name).weight = v; });
  table.set("objective.best", plain(Kind::text), "valid.loss", Bound::identity,
            "What makes a model the best, \"valid.\" and a metric.",
            [](RunConfig& c, const json& v) { c.objective.best = v; });
  table.set("objective.patience", integer(0), 0, Bound::identity,
            "Evaluations without a better value before the run ends early; 0: never.",
            [](RunConfig& c, const json& v) { c.objective.patience = v; });
}

}  // namespace hadal::launch
