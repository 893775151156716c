#include "engine/reducer.hpp"

#include <algorithm>
#include <utility>

#include "engine/stopwatch.hpp"

namespace hadal::engine {
namespace {

std::span<float> cut(std::span<float> arena, const ArenaSlice& slice) {
  return arena.subspan(static_cast<std::size_t>(slice.begin),
                       static_cast<std::size_t>(slice.count()));
}

}  // namespace

Reducer::Reducer(Communicator& comm, const ArenaLayout& layout, std::vector<Share> ranks_shares)
    : comm_(comm), layout_(layout), shares_(std::move(ranks_shares)) {}

AlignedBuffer Reducer::reduce(GradientNodes nodes, const Leaves& leaves, GradientPool& pool) {
  if (comm_.size() == 1) return std::move(nodes.begin()->second);
  AlignedBuffer result = pool.take();
  std::vector<std::vector<kernels::TreeNode>> rank_nodes;
  for (const Share share : shares_) rank_nodes.push_back(leaves.nodes(share));
  for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
    reduce_bucket(b, nodes, leaves, rank_nodes, result.span());
  }
  for (auto& [node, buffer] : nodes) pool.give_back(std::move(buffer));
  return result;
}

void Reducer::reduce_bucket(std::size_t bucket, GradientNodes& nodes, const Leaves& leaves,
                            const std::vector<std::vector<kernels::TreeNode>>& rank_nodes,
                            std::span<float> result) {
  const int ranks = comm_.size();
  const ArenaSlice mine = layout_.slice(bucket, comm_.rank(), ranks);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  std::vector<std::pair<kernels::TreeNode, std::span<float>>> pieces;
  std::size_t foreign = 0;
  for (int r = 0; r < ranks; ++r) {
    if (r != comm_.rank()) foreign += rank_nodes[static_cast<std::size_t>(r)].size();
  }
  AlignedBuffer received(static_cast<std::int64_t>(foreign) * mine.count());
  std::int64_t used = 0;
  for (int r = 0; r < ranks; ++r) {
    if (r == comm_.rank()) {
      for (auto& [node, buffer] : nodes) pieces.emplace_back(node, cut(buffer.span(), mine));
      continue;
    }
    const ArenaSlice theirs = layout_.slice(bucket, r, ranks);
    if (theirs.count() > 0) {
      for (auto& [node, buffer] : nodes) {
        out.push_back({r, std::as_bytes(cut(buffer.span(), theirs))});
      }
    }
    for (const kernels::TreeNode node : rank_nodes[static_cast<std::size_t>(r)]) {
      if (mine.count() == 0) continue;
      const std::span<float> place = received.subspan(used, used + mine.count());
      used += mine.count();
      in.push_back({r, std::as_writable_bytes(place)});
      pieces.emplace_back(node, place);
    }
  }
  const Stopwatch watch;
  comm_.exchange(out, in);
  wait_seconds_ += watch.seconds();
  if (mine.count() == 0) return;
  CanonicalFold<std::span<float>> fold(leaves, {0, leaves.count()},
                                       [](std::span<float> sum, std::span<float> addend) {
                                         kernels::add_into(sum, addend);
                                         return sum;
                                       });
  for (const auto& [node, piece] : pieces) fold.arrive(node, piece);
  const std::span<float> root = fold.take().begin()->second;
  std::copy(root.begin(), root.end(), cut(result, mine).begin());
}

void Reducer::gather(std::span<float> arena) {
  if (comm_.size() == 1) return;
  const Stopwatch watch;
  for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
    const ArenaSlice mine = layout_.slice(b, comm_.rank(), comm_.size());
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    for (int r = 0; r < comm_.size(); ++r) {
      if (r == comm_.rank()) continue;
      const ArenaSlice theirs = layout_.slice(b, r, comm_.size());
      if (mine.count() > 0) out.push_back({r, std::as_bytes(cut(arena, mine))});
      if (theirs.count() > 0) in.push_back({r, std::as_writable_bytes(cut(arena, theirs))});
    }
    comm_.exchange(out, in);
  }
  wait_seconds_ += watch.seconds();
}

double Reducer::take_wait_seconds() { return std::exchange(wait_seconds_, 0.0); }

}  // namespace hadal::engine
