#pragma once
// A run from its config to its last checkpoint: config -> plan -> dataset -> batch -> forward and
// backward -> reduce -> update -> checkpoint -> report. Collective as a whole.

#include <filesystem>
#include <functional>
#include <string>

#include "engine/comm/communicator.hpp"
#include "engine/dataset.hpp"
#include "engine/evaluation.hpp"
#include "engine/place.hpp"
#include "engine/run_config.hpp"
#include "engine/trainer.hpp"

namespace hadal::engine {

// What a run tells about itself, on every rank; the one that shows it picks rank 0.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  // What comes next: "scan", "prepare", "train", "evaluate", "save", "finish". A literal.
  virtual void on_phase(const char* phase) = 0;
  // Everything is checked, the first step comes next. `first_step` steps are done already.
  virtual void on_start(const TrainingPlan& plan, std::int64_t first_step) = 0;
  virtual void on_step(const StepReport& report) = 0;
  virtual void on_evaluation(const EvaluationResult& result, std::int64_t step, bool is_best,
                             double seconds) = 0;
  virtual void on_checkpoint(const std::filesystem::path& folder, std::int64_t step,
                             double seconds) = 0;
  // A checkpoint could not be written, and the run goes on (checkpoint.on_full).
  virtual void on_failed_checkpoint(std::int64_t step, const std::string& reason) = 0;
  // What this rank wishes for, asked once a step.
  virtual Wishes wishes() = 0;
};

struct TrainOutcome {
  StopReason stopped = StopReason::none;  // none: the run is complete
  bool early = false;                     // complete by objective.patience
  std::int64_t step = 0;
  std::string best;  // "valid.accuracy 0.98", or "" without validation data
  std::filesystem::path model;
  std::filesystem::path checkpoint;
};

// Collective. Starts or resumes the run in config.run.dir.
TrainOutcome train(const RunConfig& config, const Place& place, Communicator& comm,
                   RunObserver& observer);

// Collective. Exact metrics of a split with the weights of a checkpoint folder or safetensors file
// (`weights`), or the run's own model where it is empty.
EvaluationResult evaluate(const RunConfig& config, const Place& place, Communicator& comm,
                          Split split, const std::filesystem::path& weights);

// Bytes of parameters and of optimizer state, for plans.
struct ModelSize {
  std::int64_t parameters = 0;  // trained
  std::int64_t frozen_parameters = 0;
  std::int64_t checkpoint_bytes = 0;
  std::int64_t worker_bytes = 0;     // gradient memory of one worker, without activations
  std::int64_t reduction_bytes = 0;  // of one gradient: what ranks exchange in a step grows with it
  std::int64_t wire_parts = 0;       // that are rounded, each of them kept to what that leaves out:
  std::int64_t wire_bytes = 0;       // over all hosts together
};
ModelSize model_size(const RunConfig& config, const Model& model);

}  // namespace hadal::engine
