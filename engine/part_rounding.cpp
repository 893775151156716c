#include "engine/part_rounding.hpp"

#include <algorithm>
#include <bit>

#include "kernels/bfloat16.hpp"

namespace hadal::engine {
namespace {

std::int64_t rank_count(const HostMemory::Hosts& hosts) {
  std::int64_t ranks = 0;
  for (const std::vector<int>& host : hosts) ranks += std::ssize(host);
  return ranks;
}

}  // namespace

std::optional<WireParts> wire_parts(const TrainOptions& train) {
  if (train.wire == Wire::float32) return std::nullopt;
  const std::int64_t micro_batches = train.global_batch / train.micro_batch;
  const auto part = static_cast<std::uint64_t>(kernels::padded_leaves(micro_batches)) /
                    static_cast<std::uint64_t>(train.wire_parts);
  WireParts parts{.level = std::countr_zero(part)};
  parts.count = (micro_batches + parts.micro_batches() - 1) / parts.micro_batches();
  return parts;
}

std::vector<Share> shares_of(std::int64_t items, const HostMemory::Hosts& hosts,
                             const std::optional<WireParts>& parts) {
  const std::int64_t ranks = rank_count(hosts);
  std::vector<Share> by_rank(static_cast<std::size_t>(ranks));
  if (!parts) {
    const std::vector<Share> in_order = shares(items, static_cast<int>(ranks));
    auto next = in_order.begin();
    for (const std::vector<int>& host : hosts) {
      for (const int rank : host) by_rank[static_cast<std::size_t>(rank)] = *next++;
    }
    return by_rank;
  }
  const std::int64_t rest = parts->count - std::ssize(hosts);
  const auto first_of = [&](std::int64_t host, std::int64_t ranks_before) {
    return std::min(items, (host + rest * ranks_before / ranks) * parts->micro_batches());
  };
  std::int64_t before = 0;
  for (std::int64_t h = 0; h < std::ssize(hosts); ++h) {
    const std::vector<int>& host = hosts[static_cast<std::size_t>(h)];
    const std::int64_t begin = first_of(h, before);
    before += std::ssize(host);
    const std::int64_t end = first_of(h + 1, before);
    const std::vector<Share> in_order = shares(end - begin, static_cast<int>(host.size()));
    for (std::size_t k = 0; k < host.size(); ++k) {
      by_rank[static_cast<std::size_t>(host[k])] = {begin + in_order[k].begin,
                                                    begin + in_order[k].end};
    }
  }
  return by_rank;
}

PartRounding::PartRounding(const WireParts& parts, const std::vector<Share>& shares,
                           const HostMemory& host, std::span<std::byte> memory,
                           std::int64_t elements)
    : parts_(parts),
      elements_(elements),
      left_out_(reinterpret_cast<float*>(memory.data())),
      speakers_(static_cast<std::size_t>(parts.count)) {
  for (std::size_t h = 0; h < host.hosts().size(); ++h) {
    const std::vector<int>& ranks = host.hosts()[h];
    const std::int64_t first = parts.part_at(shares[static_cast<std::size_t>(ranks.front())].begin);
    const std::int64_t last = parts.part_at(shares[static_cast<std::size_t>(ranks.back())].end);
    std::fill(speakers_.begin() + first, speakers_.begin() + last, ranks.front());
    if (static_cast<int>(h) == host.host()) first_ = first;
  }
}

std::size_t PartRounding::bytes(const WireParts& parts, const std::vector<Share>& shares,
                                const HostMemory::Hosts& hosts, std::int64_t elements) {
  std::int64_t most = 0;
  for (const std::vector<int>& host : hosts) {
    most = std::max(most, parts.part_at(shares[static_cast<std::size_t>(host.back())].end) -
                              parts.part_at(shares[static_cast<std::size_t>(host.front())].begin));
  }
  return static_cast<std::size_t>(most * elements) * sizeof(float);
}

void PartRounding::round(kernels::TreeNode part, std::int64_t begin, std::span<float> rounded,
                         std::span<const float> value) const {
  kernels::round_with_feedback(
      rounded, value,
      left_out(part.index).subspan(static_cast<std::size_t>(begin), rounded.size()));
}

std::span<float> PartRounding::left_out(std::int64_t part) const {
  return {left_out_ + (part - first_) * elements_, static_cast<std::size_t>(elements_)};
}

}  // namespace hadal::engine
