#pragma once
// The canonical reduction: every rank's nodes of the gradient tree become the step's gradient,
// slice by slice at its owner; afterwards the owners' updated slices become everybody's parameters.
// The shape of the tree alone decides the bits, so any number of ranks gives the same.

#include <vector>

#include "engine/arena.hpp"
#include "engine/comm/communicator.hpp"
#include "engine/gradient_fold.hpp"

namespace hadal::engine {

class Reducer {
 public:
  // All arguments must outlive the reducer; `ranks_shares[r]` are the micro-batches of rank r.
  Reducer(Communicator& comm, const ArenaLayout& layout, std::vector<Share> ranks_shares);

  // Collective. Sums the nodes of all ranks over `leaves` (at least one present). Returns a buffer
  // of the arena's size in which the slices this rank owns hold the sum; all other buffers go back
  // to the pool.
  AlignedBuffer reduce(GradientNodes nodes, const Leaves& leaves, GradientPool& pool);

  // Collective. Every rank's owned slices of `arena` to all ranks.
  void gather(std::span<float> arena);

  // Seconds spent waiting for other ranks since the last call.
  double take_wait_seconds();

 private:
  // `rank_nodes[r]`: the nodes that rank r ends with.
  void reduce_bucket(std::size_t bucket, GradientNodes& nodes, const Leaves& leaves,
                     const std::vector<std::vector<kernels::TreeNode>>& rank_nodes,
                     std::span<float> result);

  Communicator& comm_;
  const ArenaLayout& layout_;
  std::vector<Share> shares_;
  double wait_seconds_ = 0;
};

}  // namespace hadal::engine
