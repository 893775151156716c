#pragma once
// The reduction against a sum of all gradients by one rank for itself, whatever carries the bytes.
// Throws std::runtime_error with what went wrong; collective.

#include <vector>

#include "engine/comm/communicator.hpp"

namespace hadal::tests {

// Sums synthetic gradients of `present.size()` micro-batches, at least one a rank, hands the sum
// out as if it were the parameters, and compares bits; with sums done early and left to the
// reduction.
void check_reduction(engine::Communicator& comm, const std::vector<bool>& present);

}  // namespace hadal::tests
