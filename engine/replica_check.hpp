#pragma once
// All copies of a model must hold the same bits, or training goes on with a wrong gradient that
// nobody sees. A fault of a host's memory, or a defect of this program, shows here.

#include "engine/comm/host_memory.hpp"
#include "engine/thread_team.hpp"
#include "engine/weights.hpp"

namespace hadal::engine {

// Collective. Compares hashes of the parameters (of which each host has a copy) and of the buffers
// (each rank); the ranks of a host share out the hashing. Throws a numeric error, on all ranks the
// same, that names the hosts and ranks whose copy differs from the most common one. `when` is told
// with it ("after step 50").
void check_replicas(Communicator& comm, const HostMemory& host, const Weights& weights,
                    ThreadTeam& team, const std::string& when);

// The same where each rank holds a copy of the parameters of its own, whose hash it gives.
void check_copies(Communicator& comm, std::uint64_t parameters, const Weights& weights,
                  const std::string& when);

}  // namespace hadal::engine
