#include "engine/training_state.hpp"

#include <nlohmann/json.hpp>

namespace hadal::engine {

using nlohmann::json;

json progress_record(const Progress& progress) {
  return {{"step", progress.step},
          {"updates", progress.updates},
          {"skipped", progress.skipped},
          {"loss_scale", progress.loss_scale.value()},
          {"good_steps", progress.loss_scale.good_steps()},
          {"best_value", progress.best_value ? json(*progress.best_value) : json()},
          {"best_step", progress.best_step},
          {"evaluations_since_best", progress.evaluations_since_best},
          {"evaluation_due", progress.evaluation_due}};
}

Progress progress_from(const json& record) {
  Progress progress;
  record.at("step").get_to(progress.step);
  record.at("updates").get_to(progress.updates);
  record.at("skipped").get_to(progress.skipped);
  progress.loss_scale = {record.value("loss_scale", 1.0), record.value("good_steps", -1)};
  if (!record.at("best_value").is_null()) {
    progress.best_value = record.at("best_value").get<double>();
  }
  record.at("best_step").get_to(progress.best_step);
  record.at("evaluations_since_best").get_to(progress.evaluations_since_best);
  progress.evaluation_due = record.value("evaluation_due", false);
  return progress;
}

}  // namespace hadal::engine
