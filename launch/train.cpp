#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "engine/comm/collectively.hpp"
#include "engine/fingerprint.hpp"
#include "engine/watchdog.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "io/log.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/environment.hpp"
#include "launch/progress.hpp"
#include "launch/run_folder.hpp"
#include "launch/signals.hpp"
#include "launch/stack.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

constexpr int kStoppedOnPurpose = 75;
constexpr int kPeerLost = static_cast<int>(io::ErrorKind::peer);

nlohmann::json run_manifest(const TrainArguments& arguments, const LoadedConfig& config,
                            const std::string& hosts, int ranks, const engine::Place& place) {
  return {{"program", "hadal"},
          {"version", HADAL_VERSION},
          {"libtorch", HADAL_TORCH_VERSION},
          {"mpi", engine::mpi_library_version()},
          {"processor", engine::processor_name()},
          {"device", engine::name_of(place.device.kind)},
          {"hosts", hosts},
          {"ranks", ranks},
          {"workers_per_rank", place.workers},
          {"threads_per_worker", config.run.run.threads},
          {"seed", config.run.run.seed},
          {"command", arguments.command},
          {"started", utc_now()}};
}

void finish(Status& status, const engine::TrainOutcome& outcome) {
  // A stop may come before it is known how far the run is.
  const bool knows = outcome.stopped == engine::StopReason::none || !outcome.model.empty();
  if (knows) {
    status.step = outcome.step;
    status.checkpoint = outcome.checkpoint.string();
  }
  if (outcome.stopped == engine::StopReason::none) {
    status.state = "done";
    status.reason = outcome.early ? "patience" : "complete";
    status.model = outcome.model.string();
    status.message =
        fmt::format("done: step {}, {}model {}", outcome.step,
                    outcome.best.empty() ? "" : outcome.best + ", ", outcome.model.string());
  } else {
    status.state = "stopped";
    status.reason = engine::name_of(outcome.stopped);
    status.code = kStoppedOnPurpose;
    status.message = fmt::format("stopped: step {}, checkpoint {}", status.step,
                                 status.checkpoint.empty() ? "none new" : status.checkpoint);
  }
}

// The thread that talks to the other ranks waits for them and cannot be asked: this process ends as
// it is, once this is told, and the launcher ends the others.
void tell_lost_peer(const std::filesystem::path& folder, Status status, const std::string& what) {
  const io::Error error(io::ErrorKind::peer, fmt::format("rank {} on {} ({}) {}", status.rank,
                                                         status.host, noted_place(), what));
  status.state = "failed";
  status.code = error.exit_code();
  status.reason = io::name_of(error.kind());
  status.message = error.what();
  fmt::print(stderr, "hadal: {} error: {}\n", io::name_of(error.kind()), error.what());
  std::fflush(stderr);
  try {
    // Another rank may have told already, and sooner, or all have come to the end without this one.
    const auto before = io::parse_json(io::read_file(folder / "status.json"));
    if (before.value("state", "") == "running") {
      write_status(folder, status);
      write_exit(folder, status, status.step);
    }
  } catch (const std::exception&) {
    // It has been said already.
  }
}

// "auto" is the storage that the batch system gives a job on each node: known only there.
void settle_stage(std::string& stage) {
  if (stage != "auto") return;
  for (const char* name : {"SLURM_TMPDIR", "TMPDIR"}) {
    if (const auto folder = environment_variable(name)) {
      stage = *folder;
      return;
    }
  }
  throw io::Error(
      io::ErrorKind::config,
      "data.stage = \"auto\", but neither SLURM_TMPDIR nor TMPDIR is set; name a folder "
      "of the nodes' own");
}

}  // namespace

int train(const TrainArguments& arguments, engine::Communicator& comm, double& patience) {
  LoadedConfig config;
  std::optional<RunFolder> folder;
  engine::Place place;
  std::filesystem::path fork_from;
  Status status{.rank = comm.rank(), .host = comm.host(), .phase = "start"};
  install_signal_handlers();
  install_crash_report(comm.rank(), comm.host());
  install_stack_report();
  // Where this run's status is told, once this start owns it.
  std::filesystem::path own;
  engine::Watchdog watchdog(
      comm, {.timeout = engine::RunOptions{}.collective_timeout,
             .place = noted_place,
             .stuck = [&](const std::string& what) { tell_lost_peer(own, status, what); },
             .follow = [] { std::_Exit(kPeerLost); },
             .held_up =
                 [&](double seconds) {
                   io::log_warning(fmt::format(
                       "rank {} on {} ({}) has been busy for {:.0f} s while others wait:\n{}",
                       comm.rank(), comm.host(), noted_place(), seconds, describe_stack()));
                   io::flush_log();
                 }});
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings);
    if (!arguments.fork.empty()) {
      fork_from = config.run.run.dir;
      config.run.run.dir = std::filesystem::absolute(arguments.fork).lexically_normal();
    }
    pin_isa(config.run.run.isa);
    settle_stage(config.run.data.stage);
  });
  watchdog.set_timeout(config.run.run.collective_timeout);
  patience = std::min(patience, config.run.run.collective_timeout);
  const std::string hosts = describe_hosts(comm);
  engine::run_collectively(comm, "looking at the host", [&] {
    place = find_place(comm, config.run.run);
    place.fork_from = fork_from;
  });
  engine::run_collectively(comm, "opening the run folder", [&] {
    if (comm.rank() != 0) return;
    folder.emplace(config.run.run.dir);
    folder->read_progress(status);
  });
  own = config.run.run.dir;
  Progress progress(config.run, folder ? &*folder : nullptr, status,
                    engine::all_gather_text(comm, comm.host()));
  try {
    engine::run_collectively(comm, "opening the run folder", [&] {
      if (!folder) return;
      io::add_log_file(folder->path() / "log" / "rank-0.log");
      folder->write_status(status);
      folder->write_descriptions(config,
                                 run_manifest(arguments, config, hosts, comm.size(), place));
    });
    if (comm.rank() == 0) {
      io::log_info(fmt::format("run {}: {}, {} worker{} a rank, {} core{} each",
                               config.run.run.name, hosts, place.workers,
                               place.workers == 1 ? "" : "s", config.run.run.threads,
                               config.run.run.threads == 1 ? "" : "s"));
    }
    if (comm.rank() == 0 && config.run.train.order == engine::SumOrder::fast) {
      io::log_warning(
          "train.order = \"fast\": the result depends on the number of ranks, and a resumed run "
          "may "
          "differ from an uninterrupted one");
    }
    finish(status, engine::train(config.run, place, comm, progress));
  } catch (const std::exception& exception) {
    const io::Error error = io::as_error(exception);
    status.state = "failed";
    status.code = error.exit_code();
    status.reason = io::name_of(error.kind());
    status.message = error.what();
    // A rank that fails alone writes for all: it may be the only one that knows.
    const bool agreed = dynamic_cast<const engine::AgreedError*>(&exception) != nullptr;
    if (comm.rank() == 0 || !agreed) {
      try {
        write_status(config.run.run.dir, status);
        write_exit(config.run.run.dir, status, progress.first_step());
      } catch (const std::exception& second) {
        io::log_warning(second.what());
      }
    }
    throw;
  }
  if (folder) {
    folder->write_status(status);
    folder->write_exit(status, progress.first_step());
    fmt::print("{}\n", status.message);
    std::fflush(stdout);
  }
  return status.code;
}

}  // namespace hadal::launch
