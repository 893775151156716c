#pragma once
// What travels between hosts in a step: the nodes of the gradient tree that a host adds up, to the
// ranks of other hosts that own the slices, and the updated slices back. Each rank speaks with the
// ranks of its place on other hosts, and every byte crosses the network once, straight to where it
// is wanted: 2 (n - 1) / n of the arena in and out of each of n hosts, as recursive halving and
// doubling moves, for any number of hosts and any shares. Where gradients are rounded by parts,
// half of that: a host's part travels in bfloat16 (the sum of several takes no fewer bytes in
// float32), and slices come back as their changes in bfloat16.

#include <memory>
#include <span>
#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/arena.hpp"
#include "engine/comm/host_memory.hpp"
#include "engine/optimizer.hpp"
#include "engine/thread_team.hpp"
#include "engine/tree_sum.hpp"

namespace hadal::engine {

class HostExchange {
 public:
  // All arguments must outlive this; `shares[r]` are the micro-batches of rank r.
  HostExchange(Communicator& comm, HostMemory& host, const ArenaLayout& layout,
               std::vector<Share> shares, ThreadTeam& team, const PartRounding* rounding);

  // The nodes of one bucket under way.
  struct Flight {
    std::size_t bucket = 0;
    std::vector<AlignedBuffer> sent;  // sums that were made for it
    AlignedBuffer received;
    std::vector<GradientSource> sources;  // in `received`, for the slice that this rank owns
    std::unique_ptr<Exchange> exchange;
  };

  // Collective. Sends what the nodes of this host (`own`) add up to, to the owners of the bucket's
  // slices; null: garbage of the same size, where a rank of the host gave the step up.
  Flight start(std::size_t bucket, const std::vector<GradientSource>* own, const Leaves& leaves);

  // Collective. Every rank's owned slices of `arena` (the host's one copy) to all hosts: the
  // values, or what was added to them, by bucket. What arrives is also rounded into `rounded`, the
  // host's copy in bfloat16, if it has one.
  void gather(std::span<float> arena, std::span<std::uint16_t> rounded, const Changes* changes);

  // Bytes that this rank has sent to other hosts since the last call.
  std::int64_t take_sent_bytes();

 private:
  class Rounds;
  // What goes to the host that is so many hosts behind this one, and comes from the one that is as
  // many before: every link carries one message each way at a time.
  struct Round {
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
  };

  std::size_t host_count() const { return host_.hosts().size(); }
  // The host `distance` hosts behind this one.
  std::size_t behind(std::size_t distance) const {
    return (static_cast<std::size_t>(host_.host()) + distance) % host_count();
  }
  std::size_t before(std::size_t distance) const { return behind(host_count() - distance); }
  // The rank of `host` that speaks with `owner` of another host.
  int delegate(std::size_t host, int owner) const;
  Share share_of(std::size_t host) const;
  // Whether a node comes to other hosts in bfloat16.
  bool travels_rounded(kernels::TreeNode node) const {
    return rounding_ != nullptr && rounding_->is_part(node);
  }
  // Float32 values that take the place of a node's `count`.
  std::int64_t room(kernels::TreeNode node, std::int64_t count) const {
    return travels_rounded(node) ? in_half(count) : count;
  }
  static std::int64_t in_half(std::int64_t count) { return (count + 1) / 2; }
  Outgoing message(kernels::TreeNode node, const std::vector<GradientSource>& own,
                   const Leaves& leaves, int owner, const ArenaSlice& theirs, Flight& flight);
  // The owners on another host that this rank speaks with, with their slices of a bucket.
  std::vector<std::pair<int, ArenaSlice>> partners(std::size_t host, std::size_t bucket) const;
  std::unique_ptr<Exchange> start(std::vector<Round> rounds);

  Communicator& comm_;
  HostMemory& host_;
  const ArenaLayout& layout_;
  std::vector<Share> shares_;
  ThreadTeam& team_;
  const PartRounding* rounding_;
  std::vector<std::size_t> place_of_;     // by rank: its place on its host
  std::int64_t exchanges_ = 0;            // started so far
  std::vector<std::int64_t> round_turn_;  // by round: how many of them have begun it
  std::int64_t sent_bytes_ = 0;
};

}  // namespace hadal::engine
