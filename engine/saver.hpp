#pragma once
// When a run saves, and what becomes of it: beside training or with training waiting, again later
// where the disk is full and the config says so. What it does on one rank it does on all.

#include <filesystem>

#include "engine/checkpoint_writer.hpp"
#include "engine/run.hpp"
#include "engine/session.hpp"
#include "engine/stopwatch.hpp"

namespace hadal::engine {

// A fixed span, or so seldom that saving takes at most 2 % of the time.
class SaveClock {
 public:
  SaveClock(const CheckpointOptions& options, const TrainingPlan& plan);
  bool due(std::int64_t coming_step) const;
  // Training has waited so long for a save that took so many seconds in all.
  void saved(double waited, double took);

 private:
  std::int64_t steps_ = 0;
  double seconds_ = 0;
  double pause_;
  Stopwatch watch_;
};

class Saver {
 public:
  // Collective. All must outlive it; `memory` is of the session's state. `identity` goes into every
  // checkpoint.
  Saver(const RunConfig& config, const TrainingPlan& plan, Communicator& comm, Session& session,
        CheckpointMemory& memory, nlohmann::json identity, RunObserver& observer);

  // Before the ranks agree on a step: adds to what this rank wishes for.
  void ask(Wishes& mine, std::int64_t coming_step);

  // Collective, after a step: with what the ranks have agreed on.
  void go_on(const Wishes& agreed);

  // Collective. Saves the state as it is now, after what is under way is done. Training waits for
  // the end where the run stops here (a save that fails is an error then, whatever
  // checkpoint.on_full says) or is done, or where it must.
  enum class At { step, end, stop };
  void save(At at);

  const std::filesystem::path& newest() const { return newest_; }
  // Seconds that training has waited since the last call, on this rank.
  double take_waited() { return std::exchange(waited_, 0.0); }

 private:
  void finish(At at);
  template <class Body>
  void attempt(At at, Body body);

  Communicator& comm_;
  TrainingState& state_;
  RunObserver& observer_;
  bool goes_on_when_full_;
  bool asynchronous_;
  nlohmann::json identity_;
  SaveClock clock_;
  std::int64_t step_ = 0;  // that is being saved
  double waited_ = 0;
  double waited_for_this_ = 0;
  std::filesystem::path newest_;
  CheckpointWriter writer_;
};

}  // namespace hadal::engine
