#pragma once
// Gradients that travel between hosts in bfloat16 (train.wire). A step's micro-batches fall into
// parts, nodes of the canonical tree that lie on one host each. A part's gradient is rounded once
// it is whole, also where it need not travel: so the bits do not depend on the number of hosts.
// What rounding leaves out is added to the part's gradient of the next step (error feedback).

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/comm/host_memory.hpp"
#include "engine/plan.hpp"
#include "kernels/canonical_sum.hpp"

namespace hadal::engine {

struct WireParts {
  int level = 0;  // of the tree
  std::int64_t count =
      0;  // of the parts that have micro-batches: the most hosts that can take part

  std::int64_t micro_batches() const { return std::int64_t{1} << level; }  // of a part
  // The first part that begins at a micro-batch, or after it.
  std::int64_t part_at(std::int64_t micro_batch) const {
    return (micro_batch + micro_batches() - 1) / micro_batches();
  }
};

// Nothing where gradients travel in float32.
std::optional<WireParts> wire_parts(const TrainOptions& train);

// The shares of `items` by rank, dealt out host by host, so that what a host adds up is one range;
// with parts, each lies on one host.
std::vector<Share> shares_of(std::int64_t items, const HostMemory::Hosts& hosts,
                             const std::optional<WireParts>& parts = std::nullopt);

class PartRounding {
 public:
  // `shares` by rank, of shares_of(). `memory` is the host's: as much as bytes() says, zeros at
  // first.
  PartRounding(const WireParts& parts, const std::vector<Share>& shares, const HostMemory& host,
               std::span<std::byte> memory, std::int64_t elements);
  static std::size_t bytes(const WireParts& parts, const std::vector<Share>& shares,
                           const HostMemory::Hosts& hosts, std::int64_t elements);

  bool is_part(kernels::TreeNode node) const { return node.level == parts_.level; }
  // rounded = the elements from `begin` on of a part of this host, rounded with what the step
  // before left out. Each element once a step; `rounded` may be `value`. Any thread.
  void round(kernels::TreeNode part, std::int64_t begin, std::span<float> rounded,
             std::span<const float> value) const;

  const WireParts& parts() const { return parts_; }
  // For checkpoints.
  std::int64_t part_count() const { return parts_.count; }
  // The first rank of the part's host, which has to do with it in the name of all.
  int speaker(std::int64_t part) const { return speakers_[static_cast<std::size_t>(part)]; }
  // What is left out of a part of this host, in the arena's layout.
  std::span<float> left_out(std::int64_t part) const;

 private:
  WireParts parts_;
  std::int64_t elements_;
  std::int64_t first_ = 0;  // part of this host
  float* left_out_;
  std::vector<int> speakers_;  // by part
};

}  // namespace hadal::engine
