#pragma once
// What every communicator must do, whatever carries its bytes. Throws std::runtime_error with what
// went wrong; collective.

#include "engine/comm/communicator.hpp"

namespace hadal::tests {

void check_communicator(engine::Communicator& comm);

}  // namespace hadal::tests
