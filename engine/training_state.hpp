#pragma once
// What a run is between two steps: everything a checkpoint holds, and nothing else.

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "engine/loss_scale.hpp"
#include "engine/optimizer.hpp"
#include "engine/part_rounding.hpp"
#include "engine/weights.hpp"

namespace hadal::engine {

struct Progress {
  std::int64_t step = 0;     // steps done
  std::int64_t updates = 0;  // of them, those that changed the parameters
  std::int64_t skipped = 0;  // steps skipped for values that were not finite, or without samples
  LossScale loss_scale;
  std::optional<double> best_value;
  std::int64_t best_step = 0;
  std::int64_t evaluations_since_best = 0;
  bool evaluation_due = false;  // the one after this step was cut short
};

// For manifests.
nlohmann::json progress_record(const Progress& progress);
Progress progress_from(const nlohmann::json& record);

struct TrainingState {
  Weights weights;      // the same on all ranks, once a host
  Optimizer optimizer;  // the slices this rank owns
  Progress progress;
  std::optional<PartRounding> rounding;  // where gradients travel in bfloat16
};

}  // namespace hadal::engine
