#pragma once
// Who this process is. Rank and size come from MPI alone; every variable that claims otherwise is
// compared with them before anything is read or written, because a launcher whose process
// management interface does not fit its MPI starts N programs that each believe to be alone.

#include <memory>

#include "engine/comm/communicator.hpp"

namespace hadal::launch {

// The world of ranks: MPI's where a launcher started this process, else one rank. With `single` the
// claims of batch variables are ignored and the process stays alone. Throws a launch error that
// names the contradicting variables and the cure, where they contradict each other already.
std::unique_ptr<engine::Communicator> join_ranks(bool single);

// Collective. Throws that error, agreed, where a variable contradicts the world.
void check_ranks(engine::Communicator& comm, bool single);

}  // namespace hadal::launch
