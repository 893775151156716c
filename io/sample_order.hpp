#pragma once
// The order of samples: a pure function (epoch, stream, position) -> sample. A step of V
// micro-batches reads V streams, one each, so a stream is always read by one rank at a time. No
// state is carried: any process can compute any part of the order at once.

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace hadal::io {

enum class Shuffle { none, full, block };

struct OrderOptions {
  std::int64_t samples = 0;
  std::int64_t streams = 1;      // V
  std::int64_t micro_batch = 1;  // samples of a stream that one step reads
  bool drop_last = true;
  Shuffle shuffle = Shuffle::full;
  std::uint64_t seed = 0;
  // Block shuffle: starts of the blocks (an HDF5 chunk's rows, cut at file ends), then `samples`.
  std::vector<std::int64_t> block_starts;
  std::int64_t window = 0;  // blocks a stream mixes at a time; 0: a tenth of the stream, at least 8
};

// A keyed bijection of [0, size): a Feistel network over the next even number of bits, walked until
// it falls inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", section 4).
class Bijection {
 public:
  Bijection(std::int64_t size, std::uint64_t key);
  std::int64_t operator()(std::int64_t position) const;

 private:
  std::uint64_t permute_once(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

class SampleOrder {
 public:
  explicit SampleOrder(OrderOptions options);

  std::int64_t steps_per_epoch() const { return steps_; }

  // Any thread. Samples of micro-batch `stream` in step `step` of `epoch` (both from 0):
  // micro_batch of them, fewer or none at the end of an epoch without drop_last.
  std::vector<std::int64_t> micro_batch(std::int64_t epoch, std::int64_t step,
                                        std::int64_t stream) const;

  // Those of all streams in the first `steps` steps of the first epoch.
  std::vector<std::int64_t> first_samples(std::int64_t steps) const;

  // Samples of a stream in one epoch.
  std::int64_t stream_length(std::int64_t stream) const;

 private:
  // Blocks in the order of an epoch with the start of each in the concatenated sequence.
  struct BlockSequence {
    std::int64_t epoch = 0;
    std::vector<std::int64_t> blocks;
    std::vector<std::int64_t> starts;
  };

  std::int64_t stream_start(std::int64_t stream) const;
  std::int64_t at(std::int64_t epoch, std::int64_t stream, std::int64_t position) const;
  std::int64_t at_block(std::int64_t epoch, std::int64_t stream, std::int64_t position) const;
  std::shared_ptr<const BlockSequence> sequence(std::int64_t epoch) const;

  OrderOptions options_;
  std::int64_t steps_ = 0;
  // Of the last two epochs asked for: threads read ahead of each other across an epoch's end.
  mutable std::mutex mutex_;
  mutable std::array<std::shared_ptr<const BlockSequence>, 2> sequences_;
};

// A 64-bit hash of a few numbers, the root of every random choice that must not carry state.
std::uint64_t mix(std::uint64_t a, std::uint64_t b, std::uint64_t c = 0);

}  // namespace hadal::io
