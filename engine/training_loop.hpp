#pragma once
// Training from its first step on, or from where a checkpoint has left it, to its end: steps,
// evaluations, saves, stops.

#include <filesystem>
#include <optional>

#include "engine/evaluation.hpp"
#include "engine/prepared_run.hpp"
#include "engine/run.hpp"
#include "engine/saver.hpp"
#include "engine/trainer.hpp"

namespace hadal::engine {

class TrainingLoop {
 public:
  // Collective. All must outlive it.
  TrainingLoop(const PreparedRun& run, Communicator& comm, Session& session,
               CheckpointMemory& memory, const nlohmann::json& identity, RunObserver& observer);

  // Collective. `resumed_from`: the checkpoint's folder, or "".
  TrainOutcome run(const io::DataIndex& train_data, const std::filesystem::path& resumed_from);

 private:
  void step(Trainer& trainer, TrainOutcome& outcome);
  // False where it was cut short: the next start makes up for it.
  bool evaluate(Trainer& trainer);
  bool out_of_patience() const;
  StopReason wished();
  void write_model();

  const RunConfig& config_;
  const TrainingPlan& plan_;
  Communicator& comm_;
  Session& session_;
  RunObserver& observer_;
  std::filesystem::path model_path_;
  Saver saver_;
  std::optional<Evaluator> evaluator_;
};

}  // namespace hadal::engine
