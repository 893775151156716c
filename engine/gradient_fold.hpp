#pragma once
// Gradient partials of a rank's micro-batches: arena-sized buffers from a pool, folded as workers
// finish. A rank needs about one buffer a worker and one for each node that waits for its sibling.

#include <memory>
#include <mutex>
#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/canonical_fold.hpp"

namespace hadal::engine {

class GradientPool {
 public:
  explicit GradientPool(std::int64_t elements) : elements_(elements) {}

  // A buffer with unspecified content. Any thread.
  AlignedBuffer take();
  void give_back(AlignedBuffer buffer);

  std::int64_t allocated() const { return allocated_; }

 private:
  std::int64_t elements_;
  std::int64_t allocated_ = 0;
  std::mutex mutex_;
  std::vector<AlignedBuffer> free_;
};

using GradientFold = CanonicalFold<AlignedBuffer>;
using GradientNodes = std::map<kernels::TreeNode, AlignedBuffer>;

// Sums two partials and gives the second buffer back to the pool.
GradientFold::Add gradient_add(GradientPool& pool);

}  // namespace hadal::engine
