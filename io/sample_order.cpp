#include "io/sample_order.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace hadal::io {
namespace {

// splitmix64's finaliser (Steele, Lea and Flood 2014, figure 16; constants by Stafford, variant
// 13).
std::uint64_t scramble(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Six rounds: four give a strong pseudo-random permutation (Luby and Rackoff 1988), two are margin
// for the small domains met here.
constexpr int kRounds = 6;

// Distinct purposes draw distinct keys from the same seed.
constexpr std::uint64_t kBlockKey = 0x626c6f636bULL;
constexpr std::uint64_t kWindowKey = 0x77696e646f77ULL;

}  // namespace

std::uint64_t mix(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  return scramble(scramble(scramble(a) ^ b) ^ c);
}

Bijection::Bijection(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), key_(key) {
  const auto bits = static_cast<int>(std::bit_width(size_ > 0 ? size_ - 1 : 0));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

std::uint64_t Bijection::permute_once(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (mix(key_, round, right) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits_) | right;
}

std::int64_t Bijection::operator()(std::int64_t position) const {
  auto value = static_cast<std::uint64_t>(position);
  do {
    value = permute_once(value);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

SampleOrder::SampleOrder(OrderOptions options) : options_(std::move(options)) {
  const std::int64_t per_step = options_.streams * options_.micro_batch;
  steps_ = options_.samples / per_step;
  if (!options_.drop_last && options_.samples % per_step != 0) ++steps_;
}

std::int64_t SampleOrder::stream_start(std::int64_t stream) const {
  // With drop_last every stream has whole micro-batches; the rest of the sequence is left out.
  if (options_.drop_last) return stream * steps_ * options_.micro_batch;
  return static_cast<std::int64_t>(static_cast<__int128>(options_.samples) * stream /
                                   options_.streams);
}

std::vector<std::int64_t> SampleOrder::first_samples(std::int64_t steps) const {
  std::vector<std::int64_t> samples;
  for (std::int64_t step = 0; step < std::min(steps, steps_); ++step) {
    for (std::int64_t stream = 0; stream < options_.streams; ++stream) {
      for (const std::int64_t id : micro_batch(0, step, stream)) samples.push_back(id);
    }
  }
  return samples;
}

std::int64_t SampleOrder::stream_length(std::int64_t stream) const {
  return stream_start(stream + 1) - stream_start(stream);
}

std::vector<std::int64_t> SampleOrder::micro_batch(std::int64_t epoch, std::int64_t step,
                                                   std::int64_t stream) const {
  const std::int64_t first = step * options_.micro_batch;
  const std::int64_t last = std::min(first + options_.micro_batch, stream_length(stream));
  std::vector<std::int64_t> samples;
  for (std::int64_t p = first; p < last; ++p) samples.push_back(at(epoch, stream, p));
  return samples;
}

std::int64_t SampleOrder::at(std::int64_t epoch, std::int64_t stream, std::int64_t position) const {
  const std::int64_t global = stream_start(stream) + position;
  switch (options_.shuffle) {
    case Shuffle::none:
      return global;
    case Shuffle::full:
      return Bijection(options_.samples,
                       mix(options_.seed, static_cast<std::uint64_t>(epoch)))(global);
    case Shuffle::block:
      return at_block(epoch, stream, position);
  }
  return global;
}

std::shared_ptr<const SampleOrder::BlockSequence> SampleOrder::sequence(std::int64_t epoch) const {
  const std::lock_guard lock(mutex_);
  for (const auto& known : sequences_) {
    if (known != nullptr && known->epoch == epoch) return known;
  }
  const auto count = static_cast<std::int64_t>(options_.block_starts.size()) - 1;
  const Bijection order(count, mix(options_.seed, static_cast<std::uint64_t>(epoch), kBlockKey));
  auto made = std::make_shared<BlockSequence>(BlockSequence{epoch, {}, {0}});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto block = static_cast<std::size_t>(order(i));
    made->blocks.push_back(static_cast<std::int64_t>(block));
    made->starts.push_back(made->starts.back() + options_.block_starts[block + 1] -
                           options_.block_starts[block]);
  }
  sequences_[1] = std::exchange(sequences_[0], std::move(made));
  return sequences_[0];
}

std::int64_t SampleOrder::at_block(std::int64_t epoch, std::int64_t stream,
                                   std::int64_t position) const {
  const std::shared_ptr<const BlockSequence> held = sequence(epoch);
  const BlockSequence& sequence_now = *held;
  const std::int64_t length = stream_length(stream);
  const auto blocks = static_cast<std::int64_t>(sequence_now.blocks.size());
  const std::int64_t mean_rows = std::max<std::int64_t>(1, options_.samples / blocks);
  const std::int64_t window_blocks =
      options_.window > 0 ? options_.window : std::max<std::int64_t>(8, length / mean_rows / 10);
  const std::int64_t window = std::max<std::int64_t>(1, window_blocks * mean_rows);
  // Positions are mixed inside the window they fall in; the last window takes the rest.
  const std::int64_t number = position / window;
  const std::int64_t begin = number * window;
  const std::int64_t size = std::min(window, length - begin);
  const std::uint64_t key =
      mix(mix(options_.seed, static_cast<std::uint64_t>(epoch), kWindowKey),
          static_cast<std::uint64_t>(stream), static_cast<std::uint64_t>(number));
  const std::int64_t global = stream_start(stream) + begin + Bijection(size, key)(position - begin);
  const auto after =
      std::upper_bound(sequence_now.starts.begin(), sequence_now.starts.end(), global);
  const auto place = static_cast<std::size_t>(after - sequence_now.starts.begin()) - 1;
  const auto block = static_cast<std::size_t>(sequence_now.blocks[place]);
  return options_.block_starts[block] + global - sequence_now.starts[place];
}

}  // namespace hadal::io
