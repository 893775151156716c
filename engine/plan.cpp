#include "engine/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/error.hpp"

namespace hadal::engine {

std::vector<Share> shares(std::int64_t items, int ranks) {
  const std::int64_t smallest_maximum = (items + ranks - 1) / ranks;
  std::int64_t unit = 1;
  while (2 * unit <= smallest_maximum) {
    const std::int64_t units = (items + 2 * unit - 1) / (2 * unit);
    if (2 * unit * ((units + ranks - 1) / ranks) > smallest_maximum) break;
    unit *= 2;
  }
  const std::int64_t units = (items + unit - 1) / unit;
  std::vector<Share> result;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    result.push_back({std::min(items, units * rank / ranks * unit),
                      std::min(items, units * (rank + 1) / ranks * unit)});
  }
  return result;
}

std::int64_t in_steps(const Span& span, std::int64_t steps_per_epoch) {
  if (span.value == 0) return 0;
  const double steps = span.unit == Span::Unit::epochs
                           ? span.value * static_cast<double>(steps_per_epoch)
                           : span.value;
  return std::max<std::int64_t>(1, std::llround(steps));
}

TrainingPlan plan_training(const TrainOptions& train, std::int64_t samples,
                           std::int64_t steps_per_epoch, int ranks) {
  const auto fail = [](const std::string& why) { return io::Error(io::ErrorKind::config, why); };
  if (train.global_batch % train.micro_batch != 0) {
    throw fail(fmt::format("train.global_batch = {} is no multiple of train.micro_batch = {}",
                           train.global_batch, train.micro_batch));
  }
  TrainingPlan plan{.samples = samples, .micro_batches = train.global_batch / train.micro_batch};
  if (steps_per_epoch == 0) {
    throw fail(
        fmt::format("the training data has {} samples, fewer than train.global_batch = {}, so an "
                    "epoch would have 0 steps; lower global_batch or set data.drop_last = false",
                    samples, train.global_batch));
  }
  if (ranks > plan.micro_batches) {
    throw fail(
        fmt::format("{} ranks, but a step has {} micro-batches (train.global_batch / "
                    "train.micro_batch); start at most {} ranks or lower train.micro_batch to {}",
                    ranks, plan.micro_batches, plan.micro_batches,
                    std::max<std::int64_t>(1, train.global_batch / ranks)));
  }
  plan.steps_per_epoch = steps_per_epoch;
  plan.steps = in_steps(train.length, steps_per_epoch);
  plan.evaluate_every_steps = in_steps(train.evaluate_every, steps_per_epoch);
  return plan;
}

// Blocks that a stream mixes at a time: a tenth of the stream, at least 8, but all streams together
// no more than one rank's usual memory holds: what does not fit would be read again and again.
static std::int64_t shuffle_window(const io::OrderOptions& order, std::int64_t sample_bytes) {
  constexpr std::int64_t kBytes = std::int64_t{768} << 20;
  const std::int64_t blocks = std::ssize(order.block_starts) - 1;
  const std::int64_t block_bytes = std::max<std::int64_t>(1, order.samples / blocks) * sample_bytes;
  const std::int64_t wanted = std::max<std::int64_t>(8, blocks / order.streams / 10);
  const std::int64_t most = kBytes / std::max<std::int64_t>(1, block_bytes * order.streams);
  return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(1, most));
}

// The field that stores most decides what a block is: its chunks cost most to read twice.
static const io::FieldIndex& largest_field(const io::DataIndex& index) {
  return *std::max_element(index.fields.begin(), index.fields.end(),
                           [](const io::FieldIndex& a, const io::FieldIndex& b) {
                             return a.sample_bytes(a.parts.front()) <
                                    b.sample_bytes(b.parts.front());
                           });
}

io::OrderOptions order_options(const RunConfig& config, const io::DataIndex& index) {
  constexpr std::int64_t kSmallData = std::int64_t{64} << 30;
  const DataOptions& data = config.data;
  io::OrderOptions order{.samples = index.samples,
                         .streams = config.train.global_batch / config.train.micro_batch,
                         .micro_batch = config.train.micro_batch,
                         .drop_last = data.drop_last,
                         .shuffle = io::Shuffle::full,
                         .seed = config.run.seed,
                         .block_starts = {},
                         .window = data.window};
  const io::FieldIndex* const largest = &largest_field(index);
  const std::int64_t chunk_rows = largest->parts.front().samples_a_chunk();
  const bool small = index.samples * index.sample_bytes() < kSmallData;
  ShuffleChoice choice = data.shuffle;
  if (choice == ShuffleChoice::automatic) {
    choice = chunk_rows <= 1 || small ? ShuffleChoice::full : ShuffleChoice::block;
  }
  if (choice == ShuffleChoice::none) order.shuffle = io::Shuffle::none;
  if (choice == ShuffleChoice::block) {
    order.shuffle = io::Shuffle::block;
    for (std::size_t p = 0; p < largest->parts.size(); ++p) {
      const std::int64_t part_chunk = largest->parts[p].samples_a_chunk();
      const std::int64_t rows = part_chunk > 0 ? part_chunk : data.block;
      // A part of a dataset may begin inside a chunk.
      std::int64_t next = rows - largest->parts[p].first_row % rows;
      for (std::int64_t s = largest->row_starts[p]; s < largest->row_starts[p + 1];
           s += next, next = rows) {
        order.block_starts.push_back(s);
      }
    }
    order.block_starts.push_back(index.samples);
    if (order.window == 0) order.window = shuffle_window(order, index.sample_bytes());
  }
  return order;
}

double decoding_amplification(const RunConfig& config, const io::DataIndex& index, int ranks) {
  const io::OrderOptions order = order_options(config, index);
  const io::FieldIndex& largest = largest_field(index);
  const io::StoredDataset& stored = largest.parts.front().stored;
  const auto rows = static_cast<double>(std::min(stored.chunk_rows, stored.rows()));
  if (rows <= 1) return 1;
  // What a rank mixes at a time: all samples, or a window of blocks a stream.
  const auto window = static_cast<double>(largest.rows_of_sample());
  double mixed = static_cast<double>(index.samples * index.sample_bytes()) / window;
  if (order.shuffle == io::Shuffle::block) {
    const auto blocks = static_cast<double>(order.block_starts.size() - 1);
    const auto streams = static_cast<double>((order.streams + ranks - 1) / ranks);
    mixed *= std::min(1.0, streams * static_cast<double>(order.window) / blocks);
  }
  const double kept =
      order.shuffle == io::Shuffle::none
          ? 1.0
          : std::min(1.0, static_cast<double>(config.data.batch.memory_bytes) / mixed);
  // A chunk is decoded once, or for each of the samples that touch it, on average over where they
  // begin.
  return (kept + (1 - kept) * (rows + window - 1)) / window;
}

std::vector<std::int64_t> good_micro_batches(std::int64_t micro_batches, int ranks) {
  std::int64_t below = ranks;
  while (2 * below <= micro_batches) below *= 2;
  return below == micro_batches ? std::vector{below} : std::vector{below, 2 * below};
}

}  // namespace hadal::engine
