#pragma once
// Buffers of a model over the micro-batches of a step (batch-norm statistics, counters). Each
// micro-batch starts from the step's values; the step's result is, buffer by buffer, the common
// value where all micro-batches agree, else the canonical mean of the float32 ones. All others must
// agree.

#include <cstdint>
#include <map>
#include <vector>

#include "engine/buffer_layout.hpp"
#include "engine/canonical_fold.hpp"
#include "engine/comm/communicator.hpp"

namespace hadal::engine {

// The sum over some micro-batches.
struct BufferSum {
  BufferValues one;                   // of any one of them: stands for all where all agree
  std::vector<float> sum;             // of the float32 buffers, one after the other
  std::vector<std::uint64_t> hashes;  // of each buffer's value; 0 where micro-batches differ
};

BufferSum buffer_leaf(const BufferLayout& layout, BufferValues values);
BufferSum add_buffers(BufferSum sum, BufferSum addend);

// Collective. Joins all ranks' nodes into the step's buffers. Throws a bug error naming a buffer
// that is not float32 and differs between micro-batches.
BufferValues join_buffers(Communicator& comm, const BufferLayout& layout, const Leaves& leaves,
                          const std::map<kernels::TreeNode, BufferSum>& nodes);

}  // namespace hadal::engine
