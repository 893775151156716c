#pragma once
// Sums that ranks have taken of the blocks they own (kernels/norm.hpp).

#include <span>
#include <vector>

#include "engine/arena.hpp"
#include "engine/comm/communicator.hpp"

namespace hadal::engine {

// Collective. What ranks hold of their blocks, `width` values each, bucket by bucket, brought into
// the order of the blocks: a sum over them depends on nobody's share.
std::vector<double> in_block_order(Communicator& comm, const ArenaLayout& layout,
                                   std::span<const double> mine, std::size_t width);

}  // namespace hadal::engine
