#include "engine/resume.hpp"

#include <fmt/format.h>

#include "engine/checkpoint_reader.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/identity.hpp"
#include "io/checkpoint_store.hpp"
#include "io/json.hpp"
#include "io/log.hpp"

namespace hadal::engine {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct Candidates {
  fs::path folder;                  // of the store
  std::vector<std::int64_t> steps;  // the newest first
  bool fork = false;
};

// Collective. Rank 0 looks.
Candidates candidates_of(const RunConfig& config, const Place& place, Communicator& comm) {
  json found;
  run_collectively(comm, "looking for a checkpoint", [&] {
    if (comm.rank() != 0) return;
    io::CheckpointStore own(config.run.dir / "checkpoints");
    own.remove_leftovers();
    for (const std::string& name : own.strays()) {
      io::log_warning(fmt::format("passed over: {} is not a checkpoint of this program", name));
    }
    found = {{"steps", own.steps()}, {"fork", false}};
    if (!found["steps"].empty() || place.fork_from.empty()) return;
    found = {{"steps", io::CheckpointStore(place.fork_from / "checkpoints").steps()},
             {"fork", true}};
    if (!found["steps"].empty()) return;
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{} has no checkpoint to fork from", place.fork_from.string()));
  });
  found = io::parse_json(broadcast_text(comm, found.dump()));
  const bool fork = found["fork"].get<bool>();
  return {(fork ? place.fork_from : config.run.dir) / "checkpoints",
          found["steps"].get<std::vector<std::int64_t>>(), fork};
}

}  // namespace

fs::path resume(const RunConfig& config, const Place& place, Communicator& comm, Session& session,
                CheckpointMemory& memory, const json& identity) {
  const Candidates candidates = candidates_of(config, place, comm);
  TrainingState& state = session.state();
  std::vector<std::string> reasons;
  const auto tell = [&](const std::string& what) {
    if (comm.rank() != 0) return;
    for (const std::string& reason : reasons) {
      io::log_warning(fmt::format("passed over: {}", reason));
    }
    io::log_info(what);
  };
  for (const std::int64_t step : candidates.steps) {
    const fs::path folder = candidates.folder / io::checkpoint_name(step);
    try {
      io::StoredCheckpoint checkpoint;
      run_collectively(comm, "looking for a checkpoint", [&] {
        checkpoint = io::read_manifest(folder);
        if (!candidates.fork && comm.rank() == 0)
          check_identity(config, checkpoint.manifest.run, identity);
      });
      if (candidates.fork) {
        const bool kept =
            load_fork(comm, memory, checkpoint, session.pool().team(), session.model(), state);
        tell(fmt::format("a new run from the weights{} of {}{}",
                         kept ? " and the optimizer's state" : "", folder.string(),
                         kept ? "" : "; the optimizer keeps other states and starts anew"));
        return {};
      }
      load_checkpoint(comm, memory, checkpoint, session.pool().team(), state);
      tell(fmt::format("resuming at step {} from {}", step, folder.string()));
      return folder;
    } catch (const AgreedError& error) {
      const bool damaged =
          error.kind() == io::ErrorKind::checkpoint || error.kind() == io::ErrorKind::storage;
      if (!damaged) throw;
      reasons.emplace_back(error.what());
    }
  }
  if (reasons.empty()) return {};
  const io::Error error = io::CheckpointStore(candidates.folder).none_usable(reasons);
  throw AgreedError(error.kind(), error.what());
}

}  // namespace hadal::engine
