#include "engine/device/device_reducer.hpp"

#include <algorithm>
#include <bit>

#include "kernels/bfloat16.hpp"

namespace hadal::engine {
namespace {

// A group is large enough to hide the start of its messages, and small enough to leave some of
// backward to hide it behind: what NCCL needs for its full speed between hosts.
constexpr std::int64_t kGroupElements = std::int64_t{8} << 20;
constexpr auto kLane = Device::Lane::reduce;

template <class T>
std::span<T> cut(std::span<T> arena, const ArenaSlice& slice) {
  return arena.subspan(static_cast<std::size_t>(slice.begin),
                       static_cast<std::size_t>(slice.count()));
}

// The pieces of a bucket (see ArenaLayout::pieces) that a rank's half is made of after so many
// rounds of halving: those whose numbers begin with the same bits as its own piece.
struct Interval {
  int first;
  int last;
};
Interval interval_of(int piece, int ranks, int rounds) {
  const int width = ranks >> rounds;
  const int first = piece / width * width;
  return {first, first + width};
}

}  // namespace

DeviceReducer::DeviceReducer(Communicator& comm, Device& device, DeviceCommunicator& messages,
                             const ArenaLayout& layout, std::vector<Share> shares,
                             const DeviceRounding* rounding)
    : comm_(comm),
      device_(device),
      messages_(messages),
      layout_(layout),
      shares_(std::move(shares)),
      rounding_(rounding),
      sum_(device) {
  std::int64_t largest = 0;
  for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
    if (groups_.empty() || elements(groups_.back()) >= kGroupElements) groups_.push_back({b, b});
    groups_.back().last = b + 1;
    largest = std::max(largest, elements(groups_.back()));
  }
  if (ranks() == 1) return;
  // What halving receives at once; the same on all ranks.
  received_ =
      DeviceArray<float>(messages.allocate(static_cast<std::size_t>(largest) * sizeof(float)),
                         static_cast<std::size_t>(largest));
}

std::int64_t DeviceReducer::elements(const Group& group) const {
  if (group.first == group.last) return 0;
  return layout_.pieces(group.last - 1, 0, 1, 1).end - layout_.pieces(group.first, 0, 1, 1).begin;
}

bool DeviceReducer::can_halve(const Leaves& leaves) const {
  // Sums of parts are no longer numbers of bfloat16, so that parts go to the owners at once.
  if (rounding_ != nullptr) return false;
  int level = -1;
  for (std::size_t r = 0; r < shares_.size(); ++r) {
    const std::vector<kernels::TreeNode> nodes = leaves.nodes(shares_[r]);
    if (nodes.size() != 1 || nodes.front().index != static_cast<std::int64_t>(r)) return false;
    if (level >= 0 && nodes.front().level != level) return false;
    level = nodes.front().level;
  }
  return true;
}

void DeviceReducer::reduce(const Leaves& leaves, std::span<const GradientSource> own,
                           std::span<const Device::Mark> ready, std::span<float> result) {
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  const int near = can_halve(leaves) ? halvable(ranks()) : 1;
  for (const Group& group : groups_) {
    await(group, ready);
    const std::int64_t begin = layout_.pieces(group.first, 0, 1, 1).begin;
    if (ranks() == 1) {
      sum_.run(kLane, leaves, root, with_parts(group, leaves, own), begin, of_group(group, result));
    } else if (near == 1) {
      send_to_owners(group, leaves, near, whole_nodes(group, leaves, own), result);
    } else {
      sum_.run(kLane, leaves, nodes_of(leaves, rank(), 1).front(), own, begin,
               of_group(group, result));
      halve(group, result);
      if (near == ranks()) continue;
      const kernels::TreeNode halved = nodes_of(leaves, rank(), near).front();
      send_to_owners(group, leaves, near, {{halved, result.data()}}, result);
    }
  }
}

void DeviceReducer::await(const Group& group, std::span<const Device::Mark> ready) {
  for (std::size_t b = group.first; b < group.last && !ready.empty(); ++b) {
    device_.wait(kLane, ready[b]);
  }
}

std::span<float> DeviceReducer::of_group(const Group& group, std::span<float> arena) const {
  return arena.subspan(static_cast<std::size_t>(layout_.pieces(group.first, 0, 1, 1).begin),
                       static_cast<std::size_t>(elements(group)));
}

void DeviceReducer::reduce_fast(std::span<const GradientSource> own,
                                std::span<const Device::Mark> ready, std::span<float> result) {
  for (const Group& group : groups_) {
    await(group, ready);
    const std::span<float> sum = of_group(group, result);
    if (own.empty()) device_.clear(kLane, std::as_writable_bytes(sum));
    for (const GradientSource& source : own) {
      if (source.values == result.data()) continue;
      const std::span<const float> whole(source.values, result.size());
      kernels::add_into(
          device_.stream(kLane), sum,
          whole.subspan(static_cast<std::size_t>(sum.data() - result.data()), sum.size()));
    }
    if (ranks() == 1) continue;
    messages_.all_reduce(sum, kLane);
    // As a ring sends them.
    sent_bytes_ += 2 * static_cast<std::int64_t>(sum.size_bytes()) * (ranks() - 1) / ranks();
  }
}

void DeviceReducer::halve(const Group& group, std::span<float> result) {
  const int rounds = std::countr_zero(static_cast<unsigned>(halvable(ranks())));
  for (int round = 0; round < rounds; ++round) {
    const int partner = rank() ^ (1 << round);
    Letters letters;
    struct Addition {
      std::span<float> kept;
      std::span<const float> received;
    };
    std::vector<Addition> additions;
    std::size_t place = 0;
    for (std::size_t b = group.first; b < group.last; ++b) {
      const auto half = [&](int of) {
        const Interval pieces = interval_of(layout_.piece_of(b, of, ranks()), ranks(), round + 1);
        return layout_.pieces(b, pieces.first, pieces.last, ranks());
      };
      const std::span<float> given = cut(result, half(partner));
      const std::span<float> kept = cut(result, half(rank()));
      const std::span<float> received = received_.span().subspan(place, kept.size());
      place += kept.size();
      letters.out.push_back({partner, std::as_bytes(given)});
      letters.in.push_back({partner, std::as_writable_bytes(received)});
      if (!kept.empty()) additions.push_back({kept, received});
    }
    exchange(letters);
    for (const Addition& addition : additions) {
      kernels::add_into(device_.stream(kLane), addition.kept, addition.received);
    }
  }
}

// A node as a whole, in the memory of one of its sources.
GradientSource DeviceReducer::joined(const Group& group, const Leaves& leaves,
                                     kernels::TreeNode node, std::span<const GradientSource> own) {
  const auto inside = std::find_if(own.begin(), own.end(), [&](const GradientSource& s) {
    return s.node.begin() >= node.begin() && s.node.end() <= node.end();
  });
  auto* const memory = const_cast<float*>(inside->values);
  const std::int64_t begin = layout_.pieces(group.first, 0, 1, 1).begin;
  sum_.run(kLane, leaves, node, own, begin,
           {memory + begin, static_cast<std::size_t>(elements(group))});
  return {node, memory};
}

// The sources, with the parts among them whole and rounded. What is above them has been before.
std::vector<GradientSource> DeviceReducer::with_parts(const Group& group, const Leaves& leaves,
                                                      std::span<const GradientSource> own) {
  if (rounding_ == nullptr) return {own.begin(), own.end()};
  std::vector<GradientSource> whole;
  const std::int64_t begin = layout_.pieces(group.first, 0, 1, 1).begin;
  for (const GradientSource& source : own) {
    kernels::TreeNode node = source.node;
    while (node.level < rounding_->level()) node = node.parent();
    const bool known = std::any_of(whole.begin(), whole.end(),
                                   [&](const GradientSource& s) { return s.node == node; });
    if (known) continue;
    if (!rounding_->is_part(node)) {
      whole.push_back(source);
      continue;
    }
    whole.push_back(joined(group, leaves, node, own));
    auto* const memory = const_cast<float*>(whole.back().values);
    rounding_->round(kLane, node, begin,
                     {memory + begin, static_cast<std::size_t>(elements(group))});
  }
  return whole;
}

std::vector<GradientSource> DeviceReducer::whole_nodes(const Group& group, const Leaves& leaves,
                                                       std::span<const GradientSource> own) {
  const std::vector<GradientSource> parts = with_parts(group, leaves, own);
  std::vector<GradientSource> nodes;
  for (const kernels::TreeNode node : nodes_of(leaves, rank(), 1)) {
    nodes.push_back(joined(group, leaves, node, parts));
  }
  return nodes;
}

void DeviceReducer::send_to_owners(const Group& group, const Leaves& leaves, int near,
                                   const std::vector<GradientSource>& nodes,
                                   std::span<float> result) {
  make_room(group, leaves, near, nodes);
  std::vector<std::vector<GradientSource>> sources(group.last - group.first, nodes);
  std::vector<Widening> widenings;
  Letters letters;
  write_to_owners(group, near, nodes, letters);
  await_nodes(group, leaves, near, letters, widenings, sources);
  exchange(letters);
  for (const Widening& widening : widenings) {
    kernels::from_bfloat16(device_.stream(kLane), widening.values, widening.halves);
  }
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  for (std::size_t b = group.first; b < group.last; ++b) {
    const ArenaSlice mine = layout_.slice(b, rank(), ranks());
    sum_.run(kLane, leaves, root, sources[b - group.first], mine.begin, cut(result, mine));
  }
}

// What a rank holds once `near` neighbours have added up.
std::vector<kernels::TreeNode> DeviceReducer::nodes_of(const Leaves& leaves, int rank,
                                                       int near) const {
  std::vector<kernels::TreeNode> nodes = leaves.nodes(shares_[static_cast<std::size_t>(rank)]);
  for (; near > 1; near /= 2) {
    for (kernels::TreeNode& node : nodes) node = node.parent();
  }
  return nodes;
}

// For all that comes in, and for what goes out rounded.
void DeviceReducer::make_room(const Group& group, const Leaves& leaves, int near,
                              std::span<const GradientSource> nodes) {
  std::size_t mine = 0, wanted = 0, halves = 0;
  for (std::size_t b = group.first; b < group.last; ++b) {
    mine += static_cast<std::size_t>(layout_.slice(b, rank(), ranks()).count());
  }
  for (int distance = near; distance < ranks(); distance += near) {
    wanted += nodes_of(leaves, (rank() + distance) % ranks(), near).size() * mine;
  }
  for (const GradientSource& node : nodes) {
    if (is_half(node.node)) halves += static_cast<std::size_t>(elements(group));
  }
  const bool rounds = rounding_ != nullptr;
  if (wanted <= received_.size() && halves <= halves_sent_.size() &&
      (!rounds || wanted <= halves_received_.size())) {
    return;
  }
  device_.finish(kLane, [&] { messages_.check(); });
  if (wanted > received_.size()) received_ = DeviceArray<float>(device_, wanted);
  if (!rounds) return;
  halves_sent_ = DeviceArray<std::uint16_t>(device_, halves);
  halves_received_ = DeviceArray<std::uint16_t>(device_, wanted);
}

// This rank's nodes, to each owner the slices that are its own; parts in bfloat16.
void DeviceReducer::write_to_owners(const Group& group, int near,
                                    std::span<const GradientSource> nodes, Letters& letters) {
  const std::int64_t begin = layout_.pieces(group.first, 0, 1, 1).begin;
  const auto length = static_cast<std::size_t>(elements(group));
  // By node: where its rounded values are, counted from the start of the arena.
  std::vector<const std::uint16_t*> rounded;
  std::size_t place = 0;
  for (const GradientSource& node : nodes) {
    if (!is_half(node.node)) {
      rounded.push_back(nullptr);
      continue;
    }
    const std::span<std::uint16_t> copy = halves_sent_.span().subspan(place, length);
    place += length;
    kernels::to_bfloat16(device_.stream(kLane), copy,
                         std::span<const float>(node.values + begin, length));
    rounded.push_back(copy.data() - begin);
  }
  for (int distance = near; distance < ranks(); distance += near) {
    const int to = (rank() + distance) % ranks();
    for (std::size_t b = group.first; b < group.last; ++b) {
      const ArenaSlice theirs = layout_.slice(b, to, ranks());
      const auto count = static_cast<std::size_t>(theirs.count());
      for (std::size_t n = 0; n < nodes.size(); ++n) {
        letters.out.push_back(
            {to, rounded[n] == nullptr
                     ? std::as_bytes(std::span(nodes[n].values + theirs.begin, count))
                     : std::as_bytes(std::span(rounded[n] + theirs.begin, count))});
      }
    }
  }
}

// The other ranks' nodes, of the slices that this rank owns: added to the sources of each bucket.
void DeviceReducer::await_nodes(const Group& group, const Leaves& leaves, int near,
                                Letters& letters, std::vector<Widening>& widenings,
                                std::vector<std::vector<GradientSource>>& sources) {
  std::size_t place = 0;
  for (int distance = near; distance < ranks(); distance += near) {
    const int from = (rank() + ranks() - distance) % ranks();
    const std::vector<kernels::TreeNode> nodes = nodes_of(leaves, from, near);
    for (std::size_t b = group.first; b < group.last; ++b) {
      const ArenaSlice mine = layout_.slice(b, rank(), ranks());
      const auto count = static_cast<std::size_t>(mine.count());
      for (const kernels::TreeNode node : nodes) {
        const std::span<float> received = received_.span().subspan(place, count);
        if (is_half(node)) {
          const std::span<std::uint16_t> halves = halves_received_.span().subspan(place, count);
          letters.in.push_back({from, std::as_writable_bytes(halves)});
          if (!halves.empty()) widenings.push_back({received, halves});
        } else {
          letters.in.push_back({from, std::as_writable_bytes(received)});
        }
        place += count;
        // Counted from the start of the arena, as all sources are.
        sources[b - group.first].push_back({node, received.data() - mine.begin});
      }
    }
  }
}

void DeviceReducer::exchange(const Letters& letters) {
  messages_.exchange(letters.out, letters.in, kLane);
  for (const Outgoing& message : letters.out) {
    sent_bytes_ += static_cast<std::int64_t>(message.bytes.size());
  }
}

template <class T>
void DeviceReducer::gather(std::span<T> arena) {
  if (ranks() == 1) return;
  const auto add = [&](Letters& letters, int to, const auto& given, int from, const auto& taken) {
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      letters.out.push_back({to, std::as_bytes(cut(arena, given(b)))});
      letters.in.push_back({from, std::as_writable_bytes(cut(arena, taken(b)))});
    }
  };
  const int near = halvable(ranks());
  if (near < ranks()) {
    Letters letters;
    for (int distance = near; distance < ranks(); distance += near) {
      const int to = (rank() + distance) % ranks();
      const int from = (rank() + ranks() - distance) % ranks();
      add(
          letters, to, [&](std::size_t b) { return layout_.slice(b, rank(), ranks()); }, from,
          [&](std::size_t b) { return layout_.slice(b, from, ranks()); });
    }
    exchange(letters);
  }
  for (int round = std::countr_zero(static_cast<unsigned>(near)); round-- > 0;) {
    const int partner = rank() ^ (1 << round);
    const auto half = [&](int of) {
      return [&, of](std::size_t b) {
        const Interval pieces = interval_of(layout_.piece_of(b, of, ranks()), ranks(), round + 1);
        return layout_.pieces(b, pieces.first, pieces.last, ranks());
      };
    };
    Letters letters;
    add(letters, partner, half(rank()), partner, half(partner));
    exchange(letters);
  }
}

template void DeviceReducer::gather(std::span<float>);
template void DeviceReducer::gather(std::span<std::uint16_t>);

}  // namespace hadal::engine
