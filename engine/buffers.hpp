#pragma once
// Buffers of a model (batch-norm statistics, counters). Each micro-batch starts from the step's
// values; the step's result is, buffer by buffer, the common value where all micro-batches agree,
// else the canonical mean of the float ones. Integer buffers must agree.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/canonical_fold.hpp"
#include "engine/comm/communicator.hpp"
#include "engine/model.hpp"

namespace hadal::engine {

struct BufferValues {
  std::vector<float> floats;           // float32 buffers, one after the other
  std::vector<std::int64_t> integers;  // int64 buffers, one after the other
  bool operator==(const BufferValues&) const = default;
};

BufferValues initial_buffers(const std::vector<BufferSpec>& specs);

// The sum over some micro-batches.
struct BufferSum {
  BufferValues one;                   // of any one of them: stands for all where all agree
  std::vector<float> sum;             // of the float buffers
  std::vector<std::uint64_t> hashes;  // of each buffer's value; 0 where micro-batches differ
};

BufferSum buffer_leaf(const std::vector<BufferSpec>& specs, BufferValues values);
BufferSum add_buffers(BufferSum sum, BufferSum addend);

// Collective. Joins all ranks' nodes into the step's buffers. Throws a bug error naming an integer
// buffer that differs between micro-batches.
BufferValues join_buffers(Communicator& comm, const std::vector<BufferSpec>& specs,
                          const Leaves& leaves,
                          const std::map<kernels::TreeNode, BufferSum>& nodes);

}  // namespace hadal::engine
