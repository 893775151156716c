#pragma once
// What a rank wishes for beside training. No rank stops or saves alone.

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "engine/comm/communicator.hpp"

namespace hadal::engine {

// Why a run ends before its last step. Larger wins where ranks disagree.
enum class StopReason : std::int32_t {
  none = 0,
  usr1 = 1,
  time = 2,
  term = 3,
  usr2 = 4,
  stop_file = 5
};

std::string name_of(StopReason reason);

// What this rank wishes for; the ranks agree on the strongest wish. And how far it is with the save
// under way (CheckpointWriter::progress()); they agree on the least.
struct Wishes {
  StopReason stop = StopReason::none;
  bool save = false;
  std::int32_t save_progress = std::numeric_limits<std::int32_t>::max();
};

// Thrown on all ranks, for the same reason, where a stop ends what comes before the first step.
struct Stopped {
  StopReason reason = StopReason::none;
};

// Asked now and then while something takes long; any thread that talks to other ranks.
using AskStop = std::function<StopReason()>;

// Collective. The strongest reason to stop of all ranks.
StopReason agree_on_stop(Communicator& comm, StopReason mine);

// Where each rank has a list of work of its own, the ranks meet now and then on the way: so that a
// wish to stop, or a failure, of one of them ends it for all.
class Meetings {
 public:
  Meetings(Communicator& comm, AskStop ask_stop)
      : comm_(comm),
        ask_stop_(std::move(ask_stop)),
        since_last_(std::chrono::steady_clock::now()) {}

  // How many items to do until the next one, the same on all ranks.
  std::int64_t items() const { return items_; }

  struct Agreed {
    bool any_failed = false;
    bool all_done = false;
    StopReason stop = StopReason::none;
  };
  // Collective.
  Agreed meet(bool failed, bool done);

 private:
  Communicator& comm_;
  AskStop ask_stop_;
  std::chrono::steady_clock::time_point since_last_;
  std::int64_t items_ = 1;
};

}  // namespace hadal::engine
