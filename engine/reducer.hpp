#pragma once
// The canonical reduction: every rank's nodes of the gradient tree become the step's gradient,
// slice by slice at its owner; afterwards the owners' updated slices are everybody's parameters.
// Inside a host owners read the others' nodes where they lie and write into the one copy of the
// parameters; only what a host adds up travels to other hosts. The shape of the tree alone decides
// the bits, so any number of ranks and hosts gives the same.

#include <span>
#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/arena.hpp"
#include "engine/comm/host_memory.hpp"
#include "engine/gradient_pool.hpp"
#include "engine/thread_team.hpp"
#include "engine/tree_sum.hpp"

namespace hadal::engine {

// The shares of `items` by rank, dealt out host by host: what a host adds up is one range.
std::vector<Share> shares_of(std::int64_t items, const HostMemory& host);

class Reducer {
 public:
  // All arguments must outlive the reducer; `shares[r]` are the micro-batches of rank r.
  Reducer(Communicator& comm, HostMemory& host, const ArenaLayout& layout, GradientPool& pool,
          std::vector<Share> shares, ThreadTeam& team);

  // Collective. Sums the nodes of all ranks over `leaves` (at least one present). Returns a buffer
  // in which the slices that this rank owns hold the sum.
  GradientBuffer reduce(GradientNodes nodes, const Leaves& leaves);

  // The sums of squares of the owned blocks (see kernels/norm.hpp), bucket by bucket, of the last
  // reduce(): taken while the values were at hand.
  const std::vector<double>& squares() const { return squares_; }

  // Collective. Every rank's owned slices of `arena` to all ranks; `arena` is the host's one copy.
  void gather(std::span<float> arena);

  // Collective. The same by the communicator's own all_reduce, after each rank has added up its own
  // nodes: the result depends on the number of ranks. Every rank gets the whole sum.
  GradientBuffer reduce_fast(GradientNodes nodes);

  // Seconds spent waiting for other ranks since the last call.
  double take_wait_seconds();

 private:
  // Consecutive blocks that one worker takes at a time.
  struct Run {
    std::size_t first_block = 0;
    std::size_t last_block = 0;
    std::size_t square = 0;  // where the first block's sum of squares goes
  };
  // What another host adds up, for the slices that this rank owns.
  struct Received {
    AlignedBuffer values;
    std::vector<GradientSource> sources;
  };

  // The rank of `host` that speaks with `owner` of another host.
  int delegate(std::size_t host, int owner) const;
  Share share_of(std::size_t host) const;
  std::vector<Run> all_runs() const;
  void add_up(const TreeSum& sum, std::span<const Run> runs, std::span<float> result);
  void exchange(std::size_t bucket, std::span<const GradientSource> own, const Leaves& leaves,
                Received& received);
  template <class Body>
  void wait(Body body);

  Communicator& comm_;
  HostMemory& host_;
  const ArenaLayout& layout_;
  GradientPool& pool_;
  std::vector<Share> shares_;
  ThreadTeam& team_;
  std::vector<std::size_t> host_of_;    // by rank
  std::vector<std::size_t> place_of_;   // by rank: its place on its host
  std::vector<std::vector<Run>> runs_;  // by bucket
  std::vector<double> squares_;
  double wait_seconds_ = 0;
};

}  // namespace hadal::engine
