#include "engine/training_loop.hpp"

#include <fmt/format.h>

#include "engine/comm/collectively.hpp"
#include "engine/model_file.hpp"
#include "engine/stopwatch.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

// Counts the evaluation towards best and patience. True where it is the best so far.
bool take_evaluation(const ObjectiveOptions& options, const Objective& objective,
                     const EvaluationResult& result, Progress& progress) {
  const std::string metric = options.best.substr(options.best.find('.') + 1);
  const double* value = result.find(metric);
  if (value == nullptr) return false;
  const bool better =
      !progress.best_value || (objective.larger_is_better(metric) ? *value > *progress.best_value
                                                                  : *value < *progress.best_value);
  progress.evaluations_since_best = better ? 0 : progress.evaluations_since_best + 1;
  if (!better) return false;
  progress.best_value = *value;
  progress.best_step = progress.step;
  return true;
}

}  // namespace

TrainingLoop::TrainingLoop(const PreparedRun& run, Communicator& comm, Session& session,
                           CheckpointMemory& memory, const nlohmann::json& identity,
                           RunObserver& observer)
    : config_(run.config),
      plan_(run.checked.plan),
      comm_(comm),
      session_(session),
      observer_(observer),
      model_path_(run.config.run.dir / "model" / "model.safetensors"),
      saver_(run.config, run.checked.plan, comm, session, memory, identity, observer) {
  if (!run.validates) return;
  io::BatchOptions options = session.batch_options(config_);
  options.memory_bytes /= 4;
  evaluator_.emplace(comm, session.pool(), run.valid_data, options, config_.train.micro_batch,
                     session.objective());
}

TrainOutcome TrainingLoop::run(const io::DataIndex& train_data, const fs::path& resumed_from) {
  TrainingState& state = session_.state();
  observer_.on_start(plan_, state.progress.step);
  Trainer trainer(config_, plan_, comm_, session_, train_data);
  TrainOutcome outcome{.model = model_path_, .checkpoint = resumed_from};
  // Whatever a stop finds before the first step is on the disk already.
  outcome.stopped = wished();
  const bool due = evaluator_ && state.progress.evaluation_due;
  if (outcome.stopped == StopReason::none && due && !evaluate(trainer)) {
    outcome.stopped = wished();
  }
  outcome.early = out_of_patience();
  while (outcome.stopped == StopReason::none && state.progress.step < plan_.steps &&
         !outcome.early) {
    step(trainer, outcome);
  }
  if (!saver_.newest().empty()) outcome.checkpoint = saver_.newest();
  observer_.on_phase("finish");
  outcome.step = state.progress.step;
  // Without validation data the last state is the model; also where the best one's file was
  // removed. One rank looks: another node may not see the file yet.
  std::int32_t writes = !state.progress.best_value || !fs::exists(model_path_) ? 1 : 0;
  comm_.broadcast(std::as_writable_bytes(std::span(&writes, 1)), 0);
  if (outcome.stopped == StopReason::none && writes != 0) {
    trainer.swap_average();
    trainer.parameters_to_host();
    write_model();
  }
  if (state.progress.best_value) {
    outcome.best = fmt::format("{} {:.6g} (step {})", config_.objective.best,
                               *state.progress.best_value, state.progress.best_step);
  }
  return outcome;
}

void TrainingLoop::step(Trainer& trainer, TrainOutcome& outcome) {
  const Progress& progress = session_.state().progress;
  observer_.on_phase("train");
  StepReport report = trainer.step([&] {
    Wishes mine = observer_.wishes();
    saver_.ask(mine, progress.step + 1);
    return mine;
  });
  saver_.go_on(report.agreed);
  report.save_seconds = saver_.take_waited();
  observer_.on_step(report);
  const bool last = progress.step == plan_.steps;
  const bool evaluates =
      evaluator_ &&
      (last || (plan_.evaluate_every_steps > 0 && progress.step % plan_.evaluate_every_steps == 0));
  if (evaluates && !evaluate(trainer)) {
    outcome.stopped = wished();
  } else {
    outcome.early = out_of_patience();
    if (!last && !outcome.early) outcome.stopped = report.agreed.stop;
  }
  const bool stops = outcome.stopped != StopReason::none;
  const bool ends = last || outcome.early;
  if (!stops && !ends && !report.agreed.save) return;
  observer_.on_phase("save");
  trainer.check_replicas();
  trainer.state_to_host();
  saver_.save(stops ? Saver::At::stop : ends ? Saver::At::end : Saver::At::step);
}

bool TrainingLoop::evaluate(Trainer& trainer) {
  const Stopwatch watch;
  Progress& progress = session_.state().progress;
  observer_.on_phase("evaluate");
  progress.evaluation_due = true;
  trainer.swap_average();
  const auto result = evaluator_->run([this] { return observer_.wishes().stop; });
  bool best = false;
  if (result) {
    progress.evaluation_due = false;
    best = take_evaluation(config_.objective, session_.objective(), *result, progress);
    if (best) {
      trainer.parameters_to_host();
      write_model();
    }
  }
  trainer.swap_average();
  if (result) observer_.on_evaluation(*result, progress.step, best, watch.seconds());
  return result.has_value();
}

bool TrainingLoop::out_of_patience() const {
  return config_.objective.patience > 0 &&
         session_.state().progress.evaluations_since_best >= config_.objective.patience;
}

StopReason TrainingLoop::wished() { return agree_on_stop(comm_, observer_.wishes().stop); }

void TrainingLoop::write_model() {
  run_collectively(comm_, "writing the model", [&] {
    if (comm_.rank() == 0) {
      write_model_atomically(model_path_, session_.model(), session_.state().weights);
    }
  });
}

}  // namespace hadal::engine
