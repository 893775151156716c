#include "engine/run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/fingerprint.hpp"
#include "engine/identity.hpp"
#include "engine/input_scaling.hpp"
#include "engine/resume.hpp"
#include "engine/session.hpp"
#include "engine/training_loop.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;

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

CheckpointMemory::Room checkpoint_room(const RunConfig& config, Communicator& comm,
                                       const Session& session) {
  if (!config.checkpoint.asynchronous) return CheckpointMemory::Room::window;
  if (least_of_all(comm, session.can_copy_state() ? 1 : 0) != 0)
    return CheckpointMemory::Room::whole;
  if (comm.rank() == 0) {
    io::log_warning(
        "training waits while a checkpoint is written: there is no memory for a copy of the state");
  }
  return CheckpointMemory::Room::window;
}

}  // namespace

// Throws Stopped before the first step.
static TrainOutcome train_to_its_end(const RunConfig& given, const Place& place, Communicator& comm,
                                     RunObserver& observer) {
  observer.on_phase("scan");
  const fs::path cache = given.run.dir / "index.cache";
  KnownScans known = read_known(comm, cache);
  known.ask_stop = [&] { return observer.wishes().stop; };
  PreparedRun run = prepare_run(given, comm, known);

  // Arena, workers.
  observer.on_phase("prepare");
  Session session(run.config, place, comm, run.train_data, std::move(run.checked.model),
                  Session::Purpose::train);
  compare_hosts(run.config, comm, session.fingerprint());

  // The state to start from.
  CheckpointMemory memory(comm, session.host(), session.model(), session.state(),
                          checkpoint_room(run.config, comm, session));
  const nlohmann::json identity = run_identity(run.config, run.train_data, session.fingerprint());
  const fs::path resumed_from = resume(run.config, place, comm, session, memory, identity);
  check_room(comm, run.config, memory.layout.bytes());
  write_known(comm, cache, known);
  known = {};

  TrainingLoop loop(run, comm, session, memory, identity, observer);
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
  std::unique_ptr<Model> model;
  run_collectively(comm, "checking the config", [&] { model = check_applied(config, data); });
  Session session(config, place, comm, data, std::move(model), Session::Purpose::apply);
  load_trained(config, weights, comm, session);
  Evaluator evaluator(comm, session.pool(), data, session.batch_options(config),
                      config.train.micro_batch, session.objective());
  return evaluator.run();
}

ModelSize model_size(const RunConfig& config, const Model& model) {
  const ArenaLayout layout(model.parameters(), ArenaLayout::Holds::trained);
  const ArenaLayout frozen(model.parameters(), ArenaLayout::Holds::frozen);
  const std::optional<WireParts> parts = wire_parts(config.train);
  const std::int64_t left_out = parts ? parts->count : 0;
  const std::int64_t states =
      std::ssize(Optimizer::state_names(config.optimizer, config.train.wire)) + left_out;
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
