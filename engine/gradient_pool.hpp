#pragma once
// Arena-sized buffers for gradient partials, in memory that the ranks of a host share: what a rank
// ends its backward passes with, the owners of slices read in place.

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
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

// A node of the canonical sum and its values, wherever they lie: in float32, or rounded to bfloat16
// where they came so from another host.
struct GradientSource {
  kernels::TreeNode node;
  const float* values = nullptr;
  const std::uint16_t* rounded = nullptr;
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
  // A micro-batch has failed: its sum will not be finished, so whoever waits gets an error.
  void abandon_step();
  // A buffer when no micro-batch is at work any more.
  GradientBuffer take_idle();

  // A node of this rank and the buffer that it lies in.
  struct Placed {
    kernels::TreeNode node;
    int slot;
  };
  // Tells the ranks of the host which nodes this rank has, or that it gave its step up. They may
  // read after the next barrier, or once all have announced what comes first.
  void publish(std::span<const Placed> nodes);
  void publish_abandoned();
  // All nodes that the ranks of this host have published; nothing where one of them gave up.
  std::optional<std::vector<GradientSource>> published() const;

  // Tells the ranks of the host that this one has got one piece further; all count the same pieces.
  void announce();
  // Whether all of them have come as far as this rank: what they wrote before, it can read.
  bool all_announced() const;

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
  std::uint64_t announced_ = 0;
  bool abandoned_ = false;
};

}  // namespace hadal::engine
