#include "engine/run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/checkpoint.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/fingerprint.hpp"
#include "engine/identity.hpp"
#include "engine/input_scaling.hpp"
#include "engine/labels.hpp"
#include "engine/model_file.hpp"
#include "engine/session.hpp"
#include "engine/staging.hpp"
#include "engine/stopwatch.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

// When to save: a fixed span, or so seldom that saving takes at most 2 % of the time. Rank 0
// decides.
class SaveClock {
 public:
  SaveClock(const CheckpointOptions& options, const TrainingPlan& plan) {
    if (!options.every) return;
    seconds_ = options.every->unit == Span::Unit::seconds ? options.every->value : 0;
    steps_ = seconds_ > 0 ? 0 : in_steps(*options.every, plan.steps_per_epoch);
  }
  bool due(std::int64_t coming_step) const {
    if (steps_ > 0) return coming_step % steps_ == 0;
    const double pause =
        seconds_ > 0 ? seconds_ : std::max(kLeastSeconds, kRatio * last_save_seconds_);
    return watch_.seconds() >= pause;
  }
  void saved(double seconds) {
    last_save_seconds_ = seconds;
    watch_.lap();
  }

 private:
  static constexpr double kLeastSeconds = 30;
  static constexpr double kRatio = 50;
  std::int64_t steps_ = 0;
  double seconds_ = 0;
  double last_save_seconds_ = 0;
  Stopwatch watch_;
};

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

// Where data.stage says, the files are read from each node's own copies.
[[nodiscard]] StagedCopies stage_data(Communicator& comm, const DataOptions& options,
                                      io::DataIndex& training, io::DataIndex* validation,
                                      const AskStop& ask_stop) {
  if (options.stage.empty()) return {};
  std::vector<io::DataIndex*> indices{&training};
  if (validation != nullptr) indices.push_back(validation);
  StagingReport report = stage(comm, options.stage, indices, ask_stop);
  if (comm.rank() != 0) return std::move(report.copies);
  io::log_info(fmt::format("staged {:.1f} MiB to {} hosts in {:.1f} s, below {}",
                           static_cast<double>(report.bytes) / (1 << 20), report.hosts,
                           report.seconds, options.stage));
  return std::move(report.copies);
}

// What is seen now costs no step; a disk may still fill up later.
void check_room(Communicator& comm, const RunConfig& config, Session& session) {
  run_collectively(comm, "looking at the disk", [&] {
    if (comm.rank() != 0) return;
    const std::int64_t wanted = checkpoint_bytes(session.state());
    const std::int64_t free = io::free_bytes(config.run.dir);
    if (free < 0 || free >= wanted) return;
    const std::string text =
        fmt::format("a checkpoint takes {:.1f} MiB, {:.1f} MiB are free at {}",
                    static_cast<double>(wanted) / (1 << 20), static_cast<double>(free) / (1 << 20),
                    config.run.dir.string());
    if (config.checkpoint.on_full == OnFull::stop) throw io::Error(io::ErrorKind::storage, text);
    io::log_warning(text);
  });
}

}  // namespace

// Throws Stopped before the first step.
static TrainOutcome train_to_its_end(const RunConfig& given, const Place& place, Communicator& comm,
                                     RunObserver& observer) {
  RunConfig config = given;
  // Config and data, checked before anything is computed or written.
  observer.on_phase("scan");
  const fs::path cache = config.run.dir / "index.cache";
  const AskStop ask_stop = [&] { return observer.wishes().stop; };
  KnownScans known = read_known(comm, cache);
  known.ask_stop = ask_stop;
  io::DataIndex train_data = open_dataset(comm, config.data, Split::train, &known);
  const bool validates = has_split(config.data, Split::valid);
  io::DataIndex valid_data =
      validates ? open_dataset(comm, config.data, Split::valid, &known) : io::DataIndex{};
  TrainingPlan plan;
  run_collectively(comm, "checking the config",
                   [&] { plan = check_plan(config, train_data, comm.size()); });
  const StagedCopies copies =
      stage_data(comm, config.data, train_data, validates ? &valid_data : nullptr, ask_stop);
  settle_scaling(comm, config, train_data, valid_data);
  run_collectively(comm, "looking at the order", [&] {
    if (comm.rank() != 0) return;
    const std::string warning = poor_mix(config, train_data);
    if (!warning.empty()) io::log_warning(warning);
  });

  for (GroupOptions& group : config.optimizer.groups) {
    if (!group.until) continue;
    const auto steps = static_cast<double>(in_steps(*group.until, plan.steps_per_epoch));
    group.until = Span{steps, Span::Unit::steps};
  }

  // Model, arena, workers.
  observer.on_phase("prepare");
  Session session(config, place, comm, train_data, Session::Purpose::train);
  compare_hosts(config, comm, session.fingerprint());
  TrainingState& state = session.state();

  // The state to start from.
  std::optional<io::CheckpointStore> store;
  const fs::path model_path = config.run.dir / "model" / "model.safetensors";
  const nlohmann::json identity = run_identity(config, train_data, session.fingerprint());
  TrainOutcome outcome{.model = model_path, .checkpoint = {}};
  outcome.checkpoint = resume(config, place, comm, session, identity, store);
  check_room(comm, config, session);
  write_known(comm, cache, known);
  known = {};

  WorkerPool& pool = session.pool();
  std::optional<Evaluator> evaluator;
  if (validates) {
    io::BatchOptions options = config.data.batch;
    options.memory_bytes /= 4;
    evaluator.emplace(comm, pool, valid_data, options, config.train.micro_batch,
                      session.objective());
  }
  SaveClock clock(config.checkpoint, plan);
  const std::int64_t stays_every =
      config.checkpoint.keep_every ? in_steps(*config.checkpoint.keep_every, plan.steps_per_epoch)
                                   : 0;
  const auto stays = [&](std::int64_t step) { return stays_every > 0 && step % stays_every == 0; };
  observer.on_start(plan, state.progress.step);
  Trainer trainer(config, plan, comm, session, train_data);
  const auto save = [&](bool must) {
    const Stopwatch watch;
    observer.on_phase("save");
    trainer.check_replicas();
    try {
      outcome.checkpoint =
          save_checkpoint(comm, store ? &*store : nullptr, session.model(), state, identity);
    } catch (const AgreedError& error) {
      clock.saved(watch.seconds());
      const bool goes_on = !must && config.checkpoint.on_full == OnFull::go_on &&
                           error.kind() == io::ErrorKind::storage;
      if (!goes_on) throw;
      observer.on_failed_checkpoint(state.progress.step, error.what());
      return;
    }
    if (store) store->prune(config.checkpoint.keep, stays);
    clock.saved(watch.seconds());
    observer.on_checkpoint(outcome.checkpoint, state.progress.step, watch.seconds());
  };
  const auto write_model = [&] {
    run_collectively(comm, "writing the model", [&] {
      if (comm.rank() == 0) {
        write_model_atomically(model_path, session.model(), state.weights);
      }
    });
  };

  const auto out_of_patience = [&] {
    return config.objective.patience > 0 &&
           state.progress.evaluations_since_best >= config.objective.patience;
  };
  const auto wished = [&] { return agree_on_stop(comm, ask_stop()); };
  // False where it was cut short: the next start makes up for it.
  const auto evaluate_now = [&] {
    const Stopwatch watch;
    observer.on_phase("evaluate");
    state.progress.evaluation_due = true;
    trainer.swap_average();
    const auto result = evaluator->run(ask_stop);
    bool best = false;
    if (result) {
      state.progress.evaluation_due = false;
      best = take_evaluation(config.objective, session.objective(), *result, state.progress);
      if (best) write_model();
    }
    trainer.swap_average();
    if (result) observer.on_evaluation(*result, state.progress.step, best, watch.seconds());
    return result.has_value();
  };
  // Whatever a stop finds before the first step is on the disk already.
  outcome.stopped = wished();
  if (outcome.stopped == StopReason::none && evaluator && state.progress.evaluation_due &&
      !evaluate_now()) {
    outcome.stopped = wished();
  }
  outcome.early = out_of_patience();
  while (outcome.stopped == StopReason::none && state.progress.step < plan.steps &&
         !outcome.early) {
    observer.on_phase("train");
    Wishes mine = observer.wishes();
    mine.save = comm.rank() == 0 && clock.due(state.progress.step + 1);
    const StepReport report = trainer.step(mine);
    observer.on_step(report);
    const bool last = state.progress.step == plan.steps;
    const bool evaluates =
        evaluator && (last || (plan.evaluate_every_steps > 0 &&
                               state.progress.step % plan.evaluate_every_steps == 0));
    if (evaluates && !evaluate_now()) {
      outcome.stopped = wished();
    } else {
      outcome.early = out_of_patience();
      if (!last && !outcome.early) outcome.stopped = report.agreed.stop;
    }
    const bool stops = outcome.stopped != StopReason::none;
    if (stops || report.agreed.save || last || outcome.early) save(stops);
  }
  observer.on_phase("finish");
  outcome.step = state.progress.step;
  // Without validation data the last state is the model; also where the best one's file was
  // removed.
  if (outcome.stopped == StopReason::none &&
      (!state.progress.best_value || !fs::exists(model_path))) {
    trainer.swap_average();
    write_model();
  }
  if (state.progress.best_value) {
    outcome.best = fmt::format("{} {:.6g} (step {})", config.objective.best,
                               *state.progress.best_value, state.progress.best_step);
  }
  return outcome;
}

TrainOutcome train(const RunConfig& config, const Place& place, Communicator& comm,
                   RunObserver& observer) {
  try {
    return train_to_its_end(config, place, comm, observer);
  } catch (const Stopped& stopped) {
    return {.stopped = stopped.reason, .model = {}, .checkpoint = {}};
  }
}

EvaluationResult evaluate(const RunConfig& config, const Place& place, Communicator& comm,
                          Split split, const fs::path& weights) {
  const io::DataIndex data = open_dataset(comm, with_known_scaling(comm, config), split);
  run_collectively(comm, "checking the config", [&] {
    const std::string reason = check_model(config, data)->reason_against_evaluation();
    if (!reason.empty()) throw io::Error(io::ErrorKind::checkpoint, reason);
  });
  Session session(config, place, comm, data, Session::Purpose::apply);
  load_trained(config, weights, comm, session);
  Evaluator evaluator(comm, session.pool(), data, config.data.batch, config.train.micro_batch,
                      session.objective());
  return evaluator.run();
}

ModelSize model_size(const RunConfig& config, const io::DataIndex& index) {
  const auto model = check_model(config, index);
  const ArenaLayout layout(model->parameters(), ArenaLayout::Holds::trained);
  const ArenaLayout frozen(model->parameters(), ArenaLayout::Holds::frozen);
  const Optimizer optimizer(config.optimizer, layout, 0, 1, config.train.wire);
  const std::optional<WireParts> parts = wire_parts(config.train);
  const std::int64_t left_out = parts ? parts->count : 0;
  const std::int64_t states = std::ssize(optimizer.state_names()) + left_out;
  constexpr std::int64_t kBytes = sizeof(float);
  return {.parameters = layout.parameter_count(),
          .frozen_parameters = frozen.parameter_count(),
          .checkpoint_bytes =
              kBytes * (layout.parameter_count() * (1 + states) + frozen.parameter_count()),
          .worker_bytes = 2 * layout.size() * kBytes,
          .reduction_bytes = layout.size() * kBytes / (parts ? 2 : 1),
          .wire_parts = left_out,
          .wire_bytes = left_out * layout.size() * kBytes};
}

}  // namespace hadal::engine
