#pragma once
// The arena: all trainable parameters in one contiguous float32 memory, in reverse order of first
// use (the order in which backward finishes them), each at a 64-byte boundary. Gradient partials
// have the same layout, optimizer states cover the slices a rank owns. The layout comes from the
// model alone.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model.hpp"

namespace hadal::engine {

struct ArenaEntry {
  std::string name;
  io::Shape shape;
  std::int64_t offset = 0;  // elements from the start of the arena
  std::int64_t count = 0;
  std::size_t parameter = 0;  // index in the model's own order
  // The buckets that it lies in; an empty parameter is in none.
  std::size_t first_bucket = 0;
  std::size_t last_bucket = 0;
};

// At most kNormBlock elements of one parameter; never shared by two owners.
struct ArenaBlock {
  std::int64_t offset = 0;
  std::int64_t count = 0;
  std::size_t entry = 0;
};

// Elements [begin, end) of the arena and blocks [first_block, last_block) in it.
struct ArenaSlice {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::size_t first_block = 0;
  std::size_t last_block = 0;
  std::int64_t count() const { return end - begin; }
};

// Elements of a bucket at least; it ends with a block. The first bucket is small so that the
// reduction starts early; later ones amortise the latency.
struct BucketSizes {
  std::int64_t first = (std::int64_t{1} << 20) / 4;
  std::int64_t later = (std::int64_t{4} << 20) / 4;
};

// The largest power of two that divides the number of ranks: so many neighbours can exchange
// halves, quarters and so on.
int halvable(int ranks);

class ArenaLayout {
 public:
  enum class Holds { trained, frozen };
  ArenaLayout(const std::vector<ParameterSpec>& parameters, Holds holds, BucketSizes sizes = {});

  const std::vector<ArenaEntry>& entries() const { return entries_; }
  const std::vector<ArenaBlock>& blocks() const { return blocks_; }
  // Elements with padding.
  std::int64_t size() const { return size_; }
  // Elements of the parameters themselves.
  std::int64_t parameter_count() const { return parameter_count_; }
  std::size_t bucket_count() const { return bucket_blocks_.size() - 1; }

  // The slice of bucket `bucket` that `rank` of `ranks` owns: one of `ranks` pieces that are cut
  // between blocks, as even as they allow.
  ArenaSlice slice(std::size_t bucket, int rank, int ranks) const;
  // The number of that piece. Ranks whose numbers end with the same bits, as far as halvable()
  // goes, own pieces that lie together: what recursive halving wants.
  int piece_of(std::size_t bucket, int rank, int ranks) const;
  // Pieces [first, last) of a bucket.
  ArenaSlice pieces(std::size_t bucket, int first, int last, int ranks) const;

 private:
  ArenaSlice blocks_slice(std::size_t first, std::size_t last) const;

  std::vector<ArenaEntry> entries_;
  std::vector<ArenaBlock> blocks_;
  std::vector<std::size_t> bucket_blocks_;  // first block of each bucket, then the number of blocks
  std::int64_t size_ = 0;
  std::int64_t parameter_count_ = 0;
};

}  // namespace hadal::engine
