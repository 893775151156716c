#pragma once
// What every communicator must do, whatever carries its bytes. Throws std::runtime_error with what
// went wrong; collective.

#include "engine/comm/communicator.hpp"

namespace hadal::tests {

void check_communicator(engine::Communicator& comm);

// What ranks of a host write, the others read. `shares`: whether this host is able to.
void check_host_memory(engine::Communicator& comm, bool shares);

}  // namespace hadal::tests
