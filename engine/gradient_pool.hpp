#pragma once
// Arena-sized buffers for gradient partials, in memory that the ranks of a host share: what a rank
// ends its backward passes with, the owners of slices read in place.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "engine/comm/host_memory.hpp"
#include "engine/plan.hpp"
#include "kernels/canonical_sum.hpp"

namespace hadal::engine {

class GradientPool;

// One buffer in use; goes back to its pool at the end of its life.
class GradientBuffer {
 public:
  GradientBuffer() = default;
  GradientBuffer(GradientPool& pool, int slot) : pool_(&pool), slot_(slot) {}
  GradientBuffer(GradientBuffer&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), slot_(other.slot_) {}
  GradientBuffer& operator=(GradientBuffer&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(slot_, other.slot_);
    return *this;
  }
  ~GradientBuffer();

  std::span<float> span() const;
  int slot() const { return slot_; }

 private:
  GradientPool* pool_ = nullptr;
  int slot_ = 0;
};

using GradientNodes = std::map<kernels::TreeNode, GradientBuffer>;

// A node of the canonical sum and its values, wherever they lie.
struct GradientSource {
  kernels::TreeNode node;
  const float* values = nullptr;
};

class GradientPool {
 public:
  // Buffers that `workers` need for a share of micro-batches: one each, and one for every node that
  // can wait for its sibling. With the buffers of fewer workers they wait for each other, but as
  // they take buffers in the order of their micro-batches, never for ever.
  static int buffers_for(Share share, int workers);
  // Bytes of a rank's part of the host's memory.
  static std::size_t bytes(std::int64_t elements, int buffers);

  GradientPool(HostMemory& host, std::int64_t elements, int buffers);

  // Before a step's first take().
  void begin_step();
  // A buffer with unspecified content, for the step's micro-batch number `turn` that takes one;
  // waits for its turn and where all are in use. Any thread.
  GradientBuffer take(std::int64_t turn);
  // How many of the step's micro-batches have had their turn.
  std::int64_t taken();
  // A micro-batch has failed: its sum will not be finished, so whoever waits gets an error.
  void abandon_step();
  // A buffer when no micro-batch is at work any more.
  GradientBuffer take_idle();

  // Tells the ranks of the host which nodes this rank has. They may read after the next barrier,
  // until the one after that.
  void publish(const GradientNodes& nodes);
  // All nodes that the ranks of this host have published.
  std::vector<GradientSource> published() const;

 private:
  friend class GradientBuffer;
  struct Table;

  Table& table(int rank) const;
  float* values(int rank, int slot) const;
  void give_back(int slot);

  HostMemory& host_;
  std::int64_t elements_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<int> free_;
  std::int64_t next_turn_ = 0;
  bool abandoned_ = false;
};

}  // namespace hadal::engine
