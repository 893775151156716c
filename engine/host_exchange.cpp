#include "engine/host_exchange.hpp"

#include <array>
#include <utility>

#include "engine/comm/polling.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

template <class Value>
std::span<Value> cut(std::span<Value> arena, const ArenaSlice& slice) {
  return arena.subspan(static_cast<std::size_t>(slice.begin),
                       static_cast<std::size_t>(slice.count()));
}

// The same memory for twice as many values of half the size.
std::span<std::uint16_t> halves(std::span<float> memory, std::int64_t count) {
  return {reinterpret_cast<std::uint16_t*>(memory.data()), static_cast<std::size_t>(count)};
}

}  // namespace

// Goes from round to round as they are done. Messages of two ranks match in the order in which they
// are started, so a round begins when all exchanges that were started earlier have begun theirs.
class HostExchange::Rounds : public Exchange {
 public:
  Rounds(HostExchange& owner, std::vector<Round> rounds)
      : owner_(owner), rounds_(std::move(rounds)), number_(owner.exchanges_++) {}

  bool done() override {
    for (; at_ < rounds_.size(); ++at_) {
      if (current_ == nullptr) {
        std::int64_t& turn = owner_.round_turn_[at_];
        if (turn != number_) return false;
        ++turn;
        current_ = owner_.comm_.start(rounds_[at_].out, rounds_[at_].in);
      }
      if (!current_->done()) return false;
      current_.reset();
    }
    return true;
  }

 private:
  HostExchange& owner_;
  std::vector<Round> rounds_;
  std::int64_t number_;
  std::size_t at_ = 0;
  std::unique_ptr<Exchange> current_;
};

HostExchange::HostExchange(Communicator& comm, HostMemory& host, const ArenaLayout& layout,
                           std::vector<Share> shares, ThreadTeam& team,
                           const PartRounding* rounding)
    : comm_(comm),
      host_(host),
      layout_(layout),
      shares_(std::move(shares)),
      team_(team),
      rounding_(rounding),
      place_of_(shares_.size()),
      round_turn_(host.hosts().size(), 0) {
  for (const std::vector<int>& ranks : host.hosts()) {
    for (std::size_t place = 0; place < ranks.size(); ++place) {
      place_of_[static_cast<std::size_t>(ranks[place])] = place;
    }
  }
}

int HostExchange::delegate(std::size_t host, int owner) const {
  const std::vector<int>& ranks = host_.hosts()[host];
  return ranks[place_of_[static_cast<std::size_t>(owner)] % ranks.size()];
}

Share HostExchange::share_of(std::size_t host) const {
  const std::vector<int>& ranks = host_.hosts()[host];
  return {shares_[static_cast<std::size_t>(ranks.front())].begin,
          shares_[static_cast<std::size_t>(ranks.back())].end};
}

std::vector<std::pair<int, ArenaSlice>> HostExchange::partners(std::size_t host,
                                                               std::size_t bucket) const {
  std::vector<std::pair<int, ArenaSlice>> found;
  for (const int owner : host_.hosts()[host]) {
    if (delegate(static_cast<std::size_t>(host_.host()), owner) != comm_.rank()) continue;
    const ArenaSlice theirs = layout_.slice(bucket, owner, comm_.size());
    if (theirs.count() > 0) found.emplace_back(owner, theirs);
  }
  return found;
}

std::unique_ptr<Exchange> HostExchange::start(std::vector<Round> rounds) {
  for (const Round& round : rounds) {
    for (const Outgoing& message : round.out)
      sent_bytes_ += static_cast<std::int64_t>(message.bytes.size());
  }
  auto exchange = std::make_unique<Rounds>(*this, std::move(rounds));
  static_cast<void>(exchange->done());  // the first round
  return exchange;
}

// What one owner gets of one node of this host.
Outgoing HostExchange::message(kernels::TreeNode node, const std::vector<GradientSource>& own,
                               const Leaves& leaves, int owner, const ArenaSlice& theirs,
                               Flight& flight) {
  const TreeSum sum(leaves, node, own, rounding_);
  if (const float* source = sum.single()) {
    const std::span<const float> arena(source, static_cast<std::size_t>(layout_.size()));
    return {owner, std::as_bytes(cut(arena, theirs))};
  }
  const bool rounded = travels_rounded(node);
  const std::span<float> values =
      flight.sent.emplace_back(AlignedBuffer::for_overwrite(room(node, theirs.count()))).span();
  const auto pieces = static_cast<std::int64_t>(theirs.last_block - theirs.first_block);
  team_.assist(0, pieces, [&](std::int64_t piece) {
    const auto k = theirs.first_block + static_cast<std::size_t>(piece);
    const std::int64_t begin = layout_.blocks()[k].offset;
    const std::int64_t end = piece + 1 < pieces ? layout_.blocks()[k + 1].offset : theirs.end;
    const auto at = static_cast<std::size_t>(begin - theirs.begin);
    const auto count = static_cast<std::size_t>(end - begin);
    if (!rounded) {
      sum.run(begin, values.subspan(at, count));
      return;
    }
    std::array<float, kernels::kNormBlock> memory;
    const std::span<float> wide = std::span(memory).first(count);
    sum.run(begin, wide);
    kernels::to_bfloat16(halves(values, theirs.count()).subspan(at, count), wide);
  });
  return {owner, rounded ? std::as_bytes(halves(values, theirs.count())) : std::as_bytes(values)};
}

HostExchange::Flight HostExchange::start(std::size_t bucket, const std::vector<GradientSource>* own,
                                         const Leaves& leaves) {
  Flight flight{.bucket = bucket};
  std::vector<Round> rounds(host_count() - 1);
  const std::vector<kernels::TreeNode> nodes =
      leaves.nodes(share_of(static_cast<std::size_t>(host_.host())));
  const ArenaSlice mine = layout_.slice(bucket, comm_.rank(), comm_.size());
  std::int64_t expected = 0;
  for (std::size_t d = 1; mine.count() > 0 && d < host_count(); ++d) {
    for (const kernels::TreeNode node : leaves.nodes(share_of(before(d)))) {
      expected += room(node, mine.count());
    }
  }
  flight.received = AlignedBuffer::for_overwrite(expected);
  std::int64_t place = 0;
  for (std::size_t d = 1; d < host_count(); ++d) {
    Round& round = rounds[d - 1];
    for (const auto& [owner, theirs] : partners(behind(d), bucket)) {
      for (const kernels::TreeNode node : nodes) {
        if (own != nullptr) {
          round.out.push_back(message(node, *own, leaves, owner, theirs, flight));
          continue;
        }
        const std::span<float> garbage =
            flight.sent.emplace_back(room(node, theirs.count())).span();
        round.out.push_back({owner, travels_rounded(node)
                                        ? std::as_bytes(halves(garbage, theirs.count()))
                                        : std::as_bytes(garbage)});
      }
    }
    if (mine.count() == 0) continue;
    for (const kernels::TreeNode node : leaves.nodes(share_of(before(d)))) {
      const std::int64_t wide = room(node, mine.count());
      const std::span<float> values = flight.received.subspan(place, place + wide);
      place += wide;
      const int sender = delegate(before(d), comm_.rank());
      // Counted from the start of the arena, as all sources are.
      if (travels_rounded(node)) {
        const std::span<std::uint16_t> rounded = halves(values, mine.count());
        round.in.push_back({sender, std::as_writable_bytes(rounded)});
        flight.sources.push_back({node, nullptr, rounded.data() - mine.begin});
      } else {
        round.in.push_back({sender, std::as_writable_bytes(values)});
        flight.sources.push_back({node, values.data() - mine.begin});
      }
    }
  }
  flight.exchange = start(std::move(rounds));
  return flight;
}

void HostExchange::gather(std::span<float> arena, std::span<std::uint16_t> rounded,
                          const Changes* changes) {
  struct Arriving {
    ArenaSlice slice;
    std::span<std::uint16_t> change;  // where it does not arrive in its place
  };
  std::vector<Round> rounds(host_count() - 1);
  std::vector<Arriving> arriving;
  std::vector<AlignedBuffer> received;
  for (std::size_t d = 1; d < host_count(); ++d) {
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      const ArenaSlice mine = layout_.slice(b, comm_.rank(), comm_.size());
      if (mine.count() > 0) {
        rounds[d - 1].out.push_back(
            {delegate(behind(d), comm_.rank()),
             changes == nullptr ? std::as_bytes(cut(arena, mine)) : std::as_bytes((*changes)[b])});
      }
      for (const auto& [owner, theirs] : partners(before(d), b)) {
        arriving.push_back({theirs, {}});
        if (changes == nullptr) {
          rounds[d - 1].in.push_back({owner, std::as_writable_bytes(cut(arena, theirs))});
          continue;
        }
        received.push_back(AlignedBuffer::for_overwrite(in_half(theirs.count())));
        arriving.back().change = halves(received.back().span(), theirs.count());
        rounds[d - 1].in.push_back({owner, std::as_writable_bytes(arriving.back().change)});
      }
    }
  }
  const std::unique_ptr<Exchange> exchange = start(std::move(rounds));
  poll_until([&] { return exchange->done(); });
  if (changes == nullptr && rounded.empty()) return;
  team_.assist(0, std::ssize(arriving), [&](std::int64_t number) {
    const auto& [slice, change] = arriving[static_cast<std::size_t>(number)];
    const std::span<float> values = cut(arena, slice);
    if (!change.empty()) kernels::add_bfloat16(values, change);
    if (!rounded.empty()) kernels::to_bfloat16(cut(rounded, slice), values);
  });
}

std::int64_t HostExchange::take_sent_bytes() { return std::exchange(sent_bytes_, 0); }

}  // namespace hadal::engine
