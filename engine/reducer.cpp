#include "engine/reducer.hpp"

#include <algorithm>
#include <utility>

#include "engine/stopwatch.hpp"
#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

// A run of blocks amortises the hand-over to a worker and is short enough to share out.
constexpr std::size_t kRunBlocks = 32;

template <class Value>
std::span<Value> cut(std::span<Value> arena, const ArenaSlice& slice) {
  return arena.subspan(static_cast<std::size_t>(slice.begin),
                       static_cast<std::size_t>(slice.count()));
}

}  // namespace

std::vector<Share> shares_of(std::int64_t items, const HostMemory& host) {
  int ranks = 0;
  for (const auto& each : host.hosts()) ranks += static_cast<int>(each.size());
  const std::vector<Share> in_order = shares(items, ranks);
  std::vector<Share> by_rank(in_order.size());
  auto next = in_order.begin();
  for (const auto& each : host.hosts()) {
    for (const int rank : each) by_rank[static_cast<std::size_t>(rank)] = *next++;
  }
  return by_rank;
}

Reducer::Reducer(Communicator& comm, HostMemory& host, const ArenaLayout& layout,
                 GradientPool& pool, std::vector<Share> shares, ThreadTeam& team)
    : comm_(comm),
      host_(host),
      layout_(layout),
      pool_(pool),
      shares_(std::move(shares)),
      team_(team),
      host_of_(shares_.size()),
      place_of_(shares_.size()) {
  for (std::size_t h = 0; h < host.hosts().size(); ++h) {
    for (std::size_t place = 0; place < host.hosts()[h].size(); ++place) {
      const auto rank = static_cast<std::size_t>(host.hosts()[h][place]);
      host_of_[rank] = h;
      place_of_[rank] = place;
    }
  }
  std::size_t blocks = 0;
  for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
    const ArenaSlice mine = layout.slice(b, comm.rank(), comm.size());
    runs_.emplace_back();
    for (std::size_t k = mine.first_block; k < mine.last_block; k += kRunBlocks) {
      const std::size_t last = std::min(k + kRunBlocks, mine.last_block);
      runs_.back().push_back({k, last, blocks});
      blocks += last - k;
    }
  }
  squares_.resize(blocks);
}

int Reducer::delegate(std::size_t host, int owner) const {
  const std::vector<int>& ranks = host_.hosts()[host];
  return ranks[place_of_[static_cast<std::size_t>(owner)] % ranks.size()];
}

Share Reducer::share_of(std::size_t host) const {
  const std::vector<int>& ranks = host_.hosts()[host];
  return {shares_[static_cast<std::size_t>(ranks.front())].begin,
          shares_[static_cast<std::size_t>(ranks.back())].end};
}

template <class Body>
void Reducer::wait(Body body) {
  const Stopwatch watch;
  body();
  wait_seconds_ += watch.seconds();
}

GradientBuffer Reducer::reduce(GradientNodes nodes, const Leaves& leaves) {
  pool_.publish(nodes);
  wait([&] { host_.barrier(); });
  const std::vector<GradientSource> own = pool_.published();
  GradientBuffer result;
  if (nodes.empty()) {
    result = pool_.take_idle();
  } else {
    result = std::move(nodes.begin()->second);
  }
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  if (host_.hosts().size() == 1) {
    const TreeSum sum(leaves, root, own);
    add_up(sum, all_runs(), result.span());
  }
  for (std::size_t b = 0; host_.hosts().size() > 1 && b < layout_.bucket_count(); ++b) {
    Received received;
    exchange(b, own, leaves, received);
    if (runs_[b].empty()) continue;
    std::vector<GradientSource> sources = own;
    sources.insert(sources.end(), received.sources.begin(), received.sources.end());
    add_up(TreeSum(leaves, root, sources), runs_[b], result.span());
  }
  return result;
}

GradientBuffer Reducer::reduce_fast(GradientNodes nodes) {
  GradientBuffer result;
  if (nodes.empty()) {
    result = pool_.take_idle();
    std::fill(result.span().begin(), result.span().end(), 0.0f);
  } else {
    result = std::move(nodes.begin()->second);
    for (auto node = std::next(nodes.begin()); node != nodes.end(); ++node) {
      kernels::add_into(result.span(), node->second.span());
    }
  }
  wait([&] { comm_.all_reduce(result.span()); });
  const std::vector<Run> runs = all_runs();
  team_.run(0, static_cast<std::int64_t>(runs.size()), [&](int, std::int64_t number) {
    const Run& run = runs[static_cast<std::size_t>(number)];
    for (std::size_t k = run.first_block; k < run.last_block; ++k) {
      const ArenaBlock& block = layout_.blocks()[k];
      squares_[run.square + k - run.first_block] = kernels::sum_of_squares(result.span().subspan(
          static_cast<std::size_t>(block.offset), static_cast<std::size_t>(block.count)));
    }
  });
  return result;
}

std::vector<Reducer::Run> Reducer::all_runs() const {
  std::vector<Run> all;
  for (const std::vector<Run>& runs : runs_) all.insert(all.end(), runs.begin(), runs.end());
  return all;
}

void Reducer::add_up(const TreeSum& sum, std::span<const Run> runs, std::span<float> result) {
  team_.run(0, static_cast<std::int64_t>(runs.size()), [&](int, std::int64_t number) {
    const Run& run = runs[static_cast<std::size_t>(number)];
    for (std::size_t k = run.first_block; k < run.last_block; ++k) {
      const ArenaBlock& block = layout_.blocks()[k];
      const std::span<float> values = result.subspan(static_cast<std::size_t>(block.offset),
                                                     static_cast<std::size_t>(block.count));
      sum.run(block.offset, values);
      squares_[run.square + k - run.first_block] = kernels::sum_of_squares(values);
    }
  });
}

void Reducer::exchange(std::size_t bucket, std::span<const GradientSource> own,
                       const Leaves& leaves, Received& received) {
  const int me = comm_.rank();
  const auto home = static_cast<std::size_t>(host_.host());
  std::vector<Outgoing> out;
  std::vector<AlignedBuffer> added;
  for (int owner = 0; owner < comm_.size(); ++owner) {
    if (host_of_[static_cast<std::size_t>(owner)] == home || delegate(home, owner) != me) continue;
    const ArenaSlice theirs = layout_.slice(bucket, owner, comm_.size());
    if (theirs.count() == 0) continue;
    for (const kernels::TreeNode node : leaves.nodes(share_of(home))) {
      const TreeSum sum(leaves, node, own);
      if (const float* source = sum.single()) {
        out.push_back({owner, std::as_bytes(std::span(source + theirs.begin,
                                                      static_cast<std::size_t>(theirs.count())))});
        continue;
      }
      const std::span<float> values = added.emplace_back(theirs.count()).span();
      const auto pieces = static_cast<std::int64_t>(theirs.last_block - theirs.first_block);
      team_.run(0, pieces, [&](int, std::int64_t piece) {
        const auto k = theirs.first_block + static_cast<std::size_t>(piece);
        const std::int64_t begin = layout_.blocks()[k].offset;
        const std::int64_t end =
            k + 1 < theirs.last_block ? layout_.blocks()[k + 1].offset : theirs.end;
        sum.run(begin, values.subspan(static_cast<std::size_t>(begin - theirs.begin),
                                      static_cast<std::size_t>(end - begin)));
      });
      out.push_back({owner, std::as_bytes(values)});
    }
  }
  std::vector<Incoming> in;
  const ArenaSlice mine = layout_.slice(bucket, me, comm_.size());
  std::vector<std::pair<int, kernels::TreeNode>> expected;
  for (std::size_t h = 0; mine.count() > 0 && h < host_.hosts().size(); ++h) {
    if (h == home) continue;
    for (const kernels::TreeNode node : leaves.nodes(share_of(h))) {
      expected.emplace_back(delegate(h, me), node);
    }
  }
  received.values = AlignedBuffer(static_cast<std::int64_t>(expected.size()) * mine.count());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * mine.count();
    const std::span<float> values = received.values.subspan(begin, begin + mine.count());
    in.push_back({expected[i].first, std::as_writable_bytes(values)});
    // Counted from the start of the arena, as all sources are.
    received.sources.push_back({expected[i].second, values.data() - mine.begin});
  }
  wait([&] { comm_.exchange(out, in); });
}

void Reducer::gather(std::span<float> arena) {
  const int me = comm_.rank();
  const auto home = static_cast<std::size_t>(host_.host());
  wait([&] {
    for (std::size_t b = 0; host_.hosts().size() > 1 && b < layout_.bucket_count(); ++b) {
      std::vector<Outgoing> out;
      std::vector<Incoming> in;
      const ArenaSlice mine = layout_.slice(b, me, comm_.size());
      for (std::size_t h = 0; mine.count() > 0 && h < host_.hosts().size(); ++h) {
        if (h != home) out.push_back({delegate(h, me), std::as_bytes(cut(arena, mine))});
      }
      for (int owner = 0; owner < comm_.size(); ++owner) {
        if (host_of_[static_cast<std::size_t>(owner)] == home || delegate(home, owner) != me)
          continue;
        const ArenaSlice theirs = layout_.slice(b, owner, comm_.size());
        if (theirs.count() > 0) in.push_back({owner, std::as_writable_bytes(cut(arena, theirs))});
      }
      comm_.exchange(out, in);
    }
    host_.barrier();
  });
}

double Reducer::take_wait_seconds() { return std::exchange(wait_seconds_, 0.0); }

}  // namespace hadal::engine
