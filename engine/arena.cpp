#include "engine/arena.hpp"

#include <algorithm>

#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

constexpr std::int64_t kAlignment = 16;  // elements: 64 bytes

std::int64_t aligned(std::int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

ArenaLayout::ArenaLayout(const std::vector<ParameterSpec>& parameters, Holds holds,
                         BucketSizes sizes) {
  for (std::size_t i = parameters.size(); i-- > 0;) {
    if (parameters[i].frozen != (holds == Holds::frozen)) continue;
    const std::int64_t count = io::element_count(parameters[i].shape);
    entries_.push_back({parameters[i].name, parameters[i].shape, size_, count, i});
    for (std::int64_t at = 0; at < count; at += kernels::kNormBlock) {
      blocks_.push_back(
          {size_ + at, std::min(kernels::kNormBlock, count - at), entries_.size() - 1});
    }
    size_ += aligned(count);
    parameter_count_ += count;
  }
  std::int64_t limit = 0;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    if (blocks_[b].offset < limit) continue;
    limit = blocks_[b].offset + (bucket_blocks_.empty() ? sizes.first : sizes.later);
    bucket_blocks_.push_back(b);
  }
  bucket_blocks_.push_back(blocks_.size());
  for (std::size_t b = 0; b < bucket_count(); ++b) {
    for (std::size_t k = bucket_blocks_[b]; k < bucket_blocks_[b + 1]; ++k) {
      ArenaEntry& entry = entries_[blocks_[k].entry];
      if (blocks_[k].offset == entry.offset) entry.first_bucket = b;
      entry.last_bucket = b;
    }
  }
}

ArenaSlice ArenaLayout::blocks_slice(std::size_t first, std::size_t last) const {
  const auto offset = [&](std::size_t b) { return b < blocks_.size() ? blocks_[b].offset : size_; };
  return {offset(first), offset(last), first, last};
}

int halvable(int ranks) { return ranks & -ranks; }

int ArenaLayout::piece_of(std::size_t bucket, int rank, int ranks) const {
  const int near = halvable(ranks), groups = ranks / near;
  // Of many pieces some are empty, so the ranks take turns.
  const int turn = static_cast<int>(bucket % static_cast<std::size_t>(ranks));
  int mirrored = 0;
  for (int bit = 1; bit < near; bit *= 2) mirrored = 2 * mirrored + ((rank & bit) != 0 ? 1 : 0);
  const int place = mirrored ^ (turn % near);
  return place * groups + (rank / near + turn) % groups;
}

ArenaSlice ArenaLayout::slice(std::size_t bucket, int rank, int ranks) const {
  const int piece = piece_of(bucket, rank, ranks);
  return pieces(bucket, piece, piece + 1, ranks);
}

ArenaSlice ArenaLayout::pieces(std::size_t bucket, int first_piece, int last_piece,
                               int ranks) const {
  const std::size_t first = bucket_blocks_[bucket];
  const std::size_t last = bucket_blocks_[bucket + 1];
  const ArenaSlice whole = blocks_slice(first, last);
  // A piece starts at the first block at or behind its even share.
  const auto cut = [&](int number) {
    const std::int64_t target = whole.begin + whole.count() * number / ranks;
    const auto begin = blocks_.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = blocks_.begin() + static_cast<std::ptrdiff_t>(last);
    const auto found = std::lower_bound(
        begin, end, target, [](const ArenaBlock& b, std::int64_t t) { return b.offset < t; });
    return static_cast<std::size_t>(found - blocks_.begin());
  };
  return blocks_slice(cut(first_piece), last_piece == ranks ? last : cut(last_piece));
}

}  // namespace hadal::engine
