#pragma once
// The canonical reduction: every rank's nodes of the gradient tree become the step's gradient,
// slice by slice at its owner; afterwards the owners' updated slices are everybody's parameters.
// Inside a host owners read the others' nodes where they lie and write into the one copy of the
// parameters; only what a host adds up travels to other hosts, bucket by bucket, while backward
// goes on. The shape of the tree alone decides the bits, so any number of ranks and hosts gives the
// same.

#include <deque>
#include <span>
#include <vector>

#include "engine/host_exchange.hpp"
#include "engine/step_gradients.hpp"

namespace hadal::engine {

class Reducer {
 public:
  // All arguments must outlive the reducer; `shares[r]` are the micro-batches of rank r (see
  // shares_of()).
  Reducer(Communicator& comm, HostMemory& host, const ArenaLayout& layout, GradientPool& pool,
          std::vector<Share> shares, ThreadTeam& team, const PartRounding* rounding = nullptr);

  // Whether there is anything that can go on beside backward: messages to other hosts.
  bool can_overlap() const { return host_.hosts().size() > 1; }

  // Collective. Sums the nodes of all ranks over `leaves` (at least one present); returns memory of
  // `gradients` in which the slices that this rank owns hold the sum. Where it can overlap it may
  // be called while micro-batches are at work; if one of them fails, on any rank, all ranks return
  // with garbage, and none waits for ever.
  std::span<float> reduce(StepGradients& gradients, const Leaves& leaves);

  // The sums of squares of the owned blocks (see kernels/norm.hpp), bucket by bucket, of the last
  // reduce(): taken while the values were at hand.
  const std::vector<double>& squares() const { return squares_; }

  // Collective. Every rank's owned slices of `arena` to all ranks; `arena` is the host's one copy,
  // `rounded` its copy in bfloat16, whose owned slices are up to date, or empty. With `changes` all
  // hosts have the values before an update, which they add them to.
  void gather(std::span<float> arena, std::span<std::uint16_t> rounded = {},
              const Changes* changes = nullptr);

  // Collective. The same as reduce() by the communicator's own all_reduce, after each rank has
  // added up its own nodes: the result depends on the number of ranks. Every rank gets the whole
  // sum.
  std::span<float> reduce_fast(StepGradients& gradients);

  // Seconds spent waiting for other ranks, and bytes sent to other hosts, since the last call.
  double take_wait_seconds();
  std::int64_t take_sent_bytes() { return exchange_.take_sent_bytes(); }

 private:
  // Consecutive blocks that one worker takes at a time.
  struct Run {
    std::size_t first_block = 0;
    std::size_t last_block = 0;
    std::size_t square = 0;  // where the first block's sum of squares goes
  };

  std::vector<Run> all_runs() const;
  void add_up(const TreeSum& sum, std::span<const Run> runs, std::span<float> result);
  void take_squares(const Run& run, std::span<const float> values);
  std::span<float> reduce_between_hosts(StepGradients& gradients, const Leaves& leaves,
                                        kernels::TreeNode root);
  void agree_on_order(const StepGradients& gradients);
  template <class Body>
  void wait(Body body);

  Communicator& comm_;
  HostMemory& host_;
  const ArenaLayout& layout_;
  GradientPool& pool_;
  ThreadTeam& team_;
  const PartRounding* rounding_;
  HostExchange exchange_;
  std::vector<std::vector<Run>> runs_;  // by bucket
  std::vector<double> squares_;
  std::vector<std::uint64_t> order_;  // of the buckets, the same on all ranks
  bool order_observed_ = false;
  double wait_seconds_ = 0;
};

}  // namespace hadal::engine
