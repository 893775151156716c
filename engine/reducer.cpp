#include "engine/reducer.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/comm/polling.hpp"
#include "engine/stopwatch.hpp"
#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

// A run of blocks amortises the hand-over to a worker and is short enough to share out.
constexpr std::size_t kRunBlocks = 32;
// Buckets on their way at a time: the network has the next one when one is through.
constexpr std::size_t kInFlight = 3;

}  // namespace

Reducer::Reducer(Communicator& comm, HostMemory& host, const ArenaLayout& layout,
                 GradientPool& pool, std::vector<Share> shares, ThreadTeam& team,
                 const PartRounding* rounding)
    : comm_(comm),
      host_(host),
      layout_(layout),
      pool_(pool),
      team_(team),
      rounding_(rounding),
      exchange_(comm, host, layout, std::move(shares), team, rounding),
      order_(layout.bucket_count()) {
  std::iota(order_.begin(), order_.end(), std::uint64_t{0});
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

// Beside backward nothing is lost by waiting.
template <class Body>
void Reducer::wait(Body body) {
  const bool counts = !team_.busy();
  const Stopwatch watch;
  body();
  if (counts) wait_seconds_ += watch.seconds();
}

std::span<float> Reducer::reduce(StepGradients& gradients, const Leaves& leaves) {
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  if (host_.hosts().size() > 1) return reduce_between_hosts(gradients, leaves, root);
  gradients.publish();
  wait([&] { host_.barrier(); });
  const std::span<float> result = gradients.result();
  const TreeSum sum(leaves, root, pool_.published().value(), rounding_);
  add_up(sum, all_runs(), result);
  return result;
}

std::span<float> Reducer::reduce_between_hosts(StepGradients& gradients, const Leaves& leaves,
                                               kernels::TreeNode root) {
  std::optional<std::vector<GradientSource>> own;
  std::span<float> result;
  std::deque<HostExchange::Flight> flights;
  const auto landed = [&] {
    const bool first = flights.front().exchange->done();
    for (std::size_t k = 1; k < flights.size(); ++k) flights[k].exchange->done();
    return first;
  };
  const auto add_landed = [&] {
    const HostExchange::Flight flight = std::move(flights.front());
    flights.pop_front();
    if (!own || runs_[flight.bucket].empty()) return;
    std::vector<GradientSource> sources = *own;
    sources.insert(sources.end(), flight.sources.begin(), flight.sources.end());
    add_up(TreeSum(leaves, root, sources, rounding_), runs_[flight.bucket], result);
  };
  for (std::size_t served = 0; served < order_.size(); ++served) {
    const std::size_t bucket = order_[served];
    bool announced = false;
    wait([&] {
      poll_until([&] {
        if (!flights.empty() && landed()) add_landed();
        if (!announced && gradients.complete(bucket)) {
          if (served == 0) gradients.publish();
          pool_.announce();
          announced = true;
        }
        return announced && pool_.all_announced();
      });
    });
    if (served == 0) {
      own = pool_.published();
      if (own) result = gradients.result();
    }
    if (flights.size() == kInFlight) {
      wait([&] { poll_until(landed); });
      add_landed();
    }
    flights.push_back(exchange_.start(bucket, own ? &*own : nullptr, leaves));
  }
  while (!flights.empty()) {
    wait([&] { poll_until(landed); });
    add_landed();
  }
  agree_on_order(gradients);
  return result;
}

// The layout of the arena foretells in which order backward finishes the buckets; what it really
// does is known after the first step. It decides when a bucket is served, never what is computed.
void Reducer::agree_on_order(const StepGradients& gradients) {
  if (std::exchange(order_observed_, true)) return;
  const std::vector<std::size_t> observed = gradients.observed_order();
  std::copy(observed.begin(), observed.end(), order_.begin());
  comm_.broadcast(std::as_writable_bytes(std::span(order_)), 0);
}

std::span<float> Reducer::reduce_fast(StepGradients& gradients) {
  const std::span<float> result = gradients.result();
  if (gradients.nodes().empty()) std::fill(result.begin(), result.end(), 0.0f);
  for (auto& [node, buffer] : gradients.nodes()) {
    if (buffer.span().data() != result.data()) kernels::add_into(result, buffer.span());
  }
  wait([&] { comm_.all_reduce(result); });
  const std::vector<Run> runs = all_runs();
  team_.assist(0, std::ssize(runs), [&](std::int64_t number) {
    take_squares(runs[static_cast<std::size_t>(number)], result);
  });
  return result;
}

std::vector<Reducer::Run> Reducer::all_runs() const {
  std::vector<Run> all;
  for (const std::vector<Run>& runs : runs_) all.insert(all.end(), runs.begin(), runs.end());
  return all;
}

void Reducer::add_up(const TreeSum& sum, std::span<const Run> runs, std::span<float> result) {
  team_.assist(0, std::ssize(runs), [&](std::int64_t number) {
    const Run& run = runs[static_cast<std::size_t>(number)];
    for (std::size_t k = run.first_block; k < run.last_block; ++k) {
      const ArenaBlock& block = layout_.blocks()[k];
      sum.run(block.offset, result.subspan(static_cast<std::size_t>(block.offset),
                                           static_cast<std::size_t>(block.count)));
      take_squares({k, k + 1, run.square + k - run.first_block}, result);
    }
  });
}

void Reducer::take_squares(const Run& run, std::span<const float> values) {
  for (std::size_t k = run.first_block; k < run.last_block; ++k) {
    const ArenaBlock& block = layout_.blocks()[k];
    squares_[run.square + k - run.first_block] = kernels::sum_of_squares(values.subspan(
        static_cast<std::size_t>(block.offset), static_cast<std::size_t>(block.count)));
  }
}

void Reducer::gather(std::span<float> arena, std::span<std::uint16_t> rounded,
                     const Changes* changes) {
  wait([&] {
    if (host_.hosts().size() > 1) exchange_.gather(arena, rounded, changes);
    host_.barrier();
  });
}

double Reducer::take_wait_seconds() { return std::exchange(wait_seconds_, 0.0); }

}  // namespace hadal::engine
