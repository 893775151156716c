#pragma once
// The gradients of one step on one rank: a buffer for each micro-batch, folded in the shape of the
// canonical tree where buffers are short, and how far backward has come with each bucket of the
// arena, so that the reduction can begin before backward ends.

#include <atomic>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "engine/arena.hpp"
#include "engine/canonical_fold.hpp"
#include "engine/gradient_pool.hpp"
#include "engine/part_rounding.hpp"

namespace hadal::engine {

class StepGradients {
 public:
  // All arguments must outlive this; `share` are the rank's micro-batches. One at a time on a pool.
  StepGradients(GradientPool& pool, const ArenaLayout& layout, const Leaves& leaves, Share share,
                const PartRounding* rounding = nullptr);

  // The threads that compute; `leaf` is a present micro-batch of the share.

  // Its buffer, with unspecified content; waits until there is one.
  std::span<float> begin(std::int64_t leaf);
  // One micro-batch has the gradient of this entry of the arena, and the padding behind it.
  void arrived(std::size_t entry);
  // Every entry of the micro-batch has arrived.
  void end(std::int64_t leaf);
  // A micro-batch has failed: nobody waits for it, and the sums are worth nothing.
  void abandon();

  // The thread that reduces.

  // Whether the rank's gradient of a bucket is there, in nodes that stay until the end of the step:
  // all micro-batches have a buffer and are through with the bucket. Also true once abandoned.
  bool complete(std::size_t bucket);
  // Tells the ranks of the host which nodes this rank has, once a bucket is complete.
  void publish();
  // Memory that the sum may overwrite, slice by slice, once the slice has been added up.
  std::span<float> result();
  // The buckets in the order in which backward finished them.
  std::vector<std::size_t> observed_order() const;
  // What there is once every micro-batch has ended.
  GradientNodes& nodes() { return fold_.nodes(); }

 private:
  GradientPool& pool_;
  const ArenaLayout& layout_;
  const Leaves& leaves_;
  Share share_;
  std::int64_t present_;
  std::vector<std::atomic<std::int64_t>> missing_;      // by bucket: entries of micro-batches
  std::vector<std::atomic<std::int64_t>> finished_at_;  // by bucket: its turn
  std::atomic<std::int64_t> finished_ = 0;              // buckets
  std::atomic<bool> abandoned_ = false;
  std::mutex mutex_;  // of what follows
  CanonicalFold<GradientBuffer> fold_;
  std::map<std::int64_t, GradientBuffer> in_work_;
  std::int64_t begun_ = 0;
  int adding_ = 0;
  GradientBuffer spare_;
};

}  // namespace hadal::engine
