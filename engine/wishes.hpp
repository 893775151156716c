#pragma once
// What a rank wishes for beside training. No rank stops or saves alone.

#include <cstdint>
#include <string>

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

// What this rank wishes for; the ranks agree on the strongest wish.
struct Wishes {
  StopReason stop = StopReason::none;
  bool save = false;
};

// Collective. The strongest reason to stop of all ranks.
StopReason agree_on_stop(Communicator& comm, StopReason mine);

}  // namespace hadal::engine
