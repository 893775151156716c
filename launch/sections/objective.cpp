#include "launch/sections/table.hpp"

namespace hadal::launch {

using engine::RunConfig;
using nlohmann::json;
using Kind = ValueKind;

void add_objective(Table& table) {
  table.set("objective.loss",
            choice({"cross_entropy", "mse", "mae", "huber", "binary_cross_entropy"}),
            "cross_entropy", Bound::identity, "The loss; binary_cross_entropy takes logits.",
            [](RunConfig& c, const json& v) {
              using L = engine::LossKind;
              c.objective.loss = pick<L>(v, {{"cross_entropy", L::cross_entropy},
                                             {"mse", L::mean_squared_error},
                                             {"mae", L::mean_absolute_error},
                                             {"huber", L::huber},
                                             {"binary_cross_entropy", L::binary_cross_entropy}});
            });
  table.set("objective.label_smoothing", number(0, 1), 0.0, Bound::identity, "Of cross_entropy.",
            [](RunConfig& c, const json& v) { c.objective.label_smoothing = v; });
  table.set("objective.huber_delta", positive(), 1.0, Bound::identity, "Where huber turns linear.",
            [](RunConfig& c, const json& v) { c.objective.huber_delta = v; });
  table.set("objective.class_weights", plain(Kind::numbers), nullptr, Bound::identity,
            "One weight a class, for cross_entropy.",
            [](RunConfig& c, const json& v) { c.objective.class_weights = as_numbers(v); });
  table.set("objective.ignore_index", plain(Kind::integer), -100, Bound::identity,
            "The label that counts for nothing.",
            [](RunConfig& c, const json& v) { c.objective.ignore_index = v; });
  table.set("objective.metrics", plain(Kind::texts), json::array(), Bound::free,
            "Of evaluation: accuracy, top<k>_accuracy, mae, rmse, r2.",
            [](RunConfig& c, const json& v) { c.objective.metrics = as_list(v); });
  table.set("objective.best", plain(Kind::text), "valid.loss", Bound::identity,
            "What makes a model the best, \"valid.\" and a metric.",
            [](RunConfig& c, const json& v) { c.objective.best = v; });
  table.set("objective.patience", integer(0), 0, Bound::identity,
            "Evaluations without a better value before the run ends early; 0: never.",
            [](RunConfig& c, const json& v) { c.objective.patience = v; });
}

}  // namespace hadal::launch
