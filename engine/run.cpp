#include "engine/run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/fingerprint.hpp"
#include "engine/identity.hpp"
#include "engine/input_scaling.hpp"
#include "engine/labels.hpp"
#include "engine/model_file.hpp"
#include "engine/resume.hpp"
#include "engine/saver.hpp"
#include "engine/session.hpp"
#include "engine/staging.hpp"
#include "engine/stopwatch.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

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
void check_room(Communicator& comm, const RunConfig& config, std::int64_t wanted) {
  run_collectively(comm, "looking at the disk", [&] {
    if (comm.rank() != 0) return;
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

// Config and data of a run, checked before anything is computed or written.
struct Prepared {
  RunConfig config;
  io::DataIndex train_data;
  io::DataIndex valid_data;  // empty where there is none
  bool validates = false;
  TrainingPlan plan;
  StagedCopies copies;
};

// Collective. Throws Stopped.
Prepared prepare(const RunConfig& given, Communicator& comm, KnownScans& known) {
  Prepared run{.config = given};
  RunConfig& config = run.config;
  run.train_data = open_dataset(comm, config.data, Split::train, &known);
  run.validates = has_split(config.data, Split::valid);
  if (run.validates) run.valid_data = open_dataset(comm, config.data, Split::valid, &known);
  run_collectively(comm, "checking the config",
                   [&] { run.plan = check_plan(config, run.train_data, comm.size()); });
  run.copies = stage_data(comm, config.data, run.train_data,
                          run.validates ? &run.valid_data : nullptr, known.ask_stop);
  settle_scaling(comm, config, run.train_data, run.valid_data);
  run_collectively(comm, "looking at the order", [&] {
    if (comm.rank() != 0) return;
    const std::string warning = poor_mix(config, run.train_data);
    if (!warning.empty()) io::log_warning(warning);
  });
  for (GroupOptions& group : config.optimizer.groups) {
    if (!group.until) continue;
    const auto steps = static_cast<double>(in_steps(*group.until, run.plan.steps_per_epoch));
    group.until = Span{steps, Span::Unit::steps};
  }
  return run;
}

CheckpointMemory::Room checkpoint_room(const RunConfig& config, Communicator& comm,
                                       const Session& session) {
  if (!config.checkpoint.asynchronous) return CheckpointMemory::Room::window;
  const std::int32_t mine = session.can_copy_state() ? 1 : 0;
  std::vector<std::int32_t> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  if (std::count(all.begin(), all.end(), 0) == 0) return CheckpointMemory::Room::whole;
  if (comm.rank() == 0) {
    io::log_warning(
        "training waits while a checkpoint is written: there is no memory for a copy of the state");
  }
  return CheckpointMemory::Room::window;
}

// Training from its first step on, or the next one, to its end.
class Loop {
 public:
  Loop(const Prepared& run, Communicator& comm, Session& session, CheckpointMemory& memory,
       const nlohmann::json& identity, RunObserver& observer)
      : config_(run.config),
        plan_(run.plan),
        comm_(comm),
        session_(session),
        observer_(observer),
        model_path_(run.config.run.dir / "model" / "model.safetensors"),
        saver_(run.config, run.plan, comm, session, memory, identity, observer) {
    if (!run.validates) return;
    io::BatchOptions options = config_.data.batch;
    options.memory_bytes /= 4;
    evaluator_.emplace(comm, session.pool(), run.valid_data, options, config_.train.micro_batch,
                       session.objective());
  }

  // Collective.
  TrainOutcome run(const io::DataIndex& train_data, const fs::path& resumed_from) {
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
    // removed.
    if (outcome.stopped == StopReason::none &&
        (!state.progress.best_value || !fs::exists(model_path_))) {
      trainer.swap_average();
      write_model();
    }
    if (state.progress.best_value) {
      outcome.best = fmt::format("{} {:.6g} (step {})", config_.objective.best,
                                 *state.progress.best_value, state.progress.best_step);
    }
    return outcome;
  }

 private:
  void step(Trainer& trainer, TrainOutcome& outcome) {
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
        evaluator_ && (last || (plan_.evaluate_every_steps > 0 &&
                                progress.step % plan_.evaluate_every_steps == 0));
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
    saver_.save(stops ? Saver::At::stop : ends ? Saver::At::end : Saver::At::step);
  }

  // False where it was cut short: the next start makes up for it.
  bool evaluate(Trainer& trainer) {
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
      if (best) write_model();
    }
    trainer.swap_average();
    if (result) observer_.on_evaluation(*result, progress.step, best, watch.seconds());
    return result.has_value();
  }

  bool out_of_patience() const {
    return config_.objective.patience > 0 &&
           session_.state().progress.evaluations_since_best >= config_.objective.patience;
  }

  StopReason wished() { return agree_on_stop(comm_, observer_.wishes().stop); }

  void write_model() {
    run_collectively(comm_, "writing the model", [&] {
      if (comm_.rank() == 0) {
        write_model_atomically(model_path_, session_.model(), session_.state().weights);
      }
    });
  }

  const RunConfig& config_;
  const TrainingPlan& plan_;
  Communicator& comm_;
  Session& session_;
  RunObserver& observer_;
  fs::path model_path_;
  Saver saver_;
  std::optional<Evaluator> evaluator_;
};

}  // namespace

// Throws Stopped before the first step.
static TrainOutcome train_to_its_end(const RunConfig& given, const Place& place, Communicator& comm,
                                     RunObserver& observer) {
  observer.on_phase("scan");
  const fs::path cache = given.run.dir / "index.cache";
  KnownScans known = read_known(comm, cache);
  known.ask_stop = [&] { return observer.wishes().stop; };
  const Prepared run = prepare(given, comm, known);

  // Model, arena, workers.
  observer.on_phase("prepare");
  Session session(run.config, place, comm, run.train_data, Session::Purpose::train);
  compare_hosts(run.config, comm, session.fingerprint());

  // The state to start from.
  CheckpointMemory memory(comm, session.host(), session.model(), session.state(),
                          checkpoint_room(run.config, comm, session));
  const nlohmann::json identity = run_identity(run.config, run.train_data, session.fingerprint());
  const fs::path resumed_from = resume(run.config, place, comm, session, memory, identity);
  check_room(comm, run.config, memory.layout.bytes());
  write_known(comm, cache, known);
  known = {};

  Loop loop(run, comm, session, memory, identity, observer);
  return loop.run(run.train_data, resumed_from);
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
