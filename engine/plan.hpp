#pragma once
// The arithmetic of a run: steps, epochs, which rank computes which micro-batch. Pure functions of
// the config, the number of samples and the number of ranks; every rank computes the same.

#include <cstdint>
#include <vector>

#include "engine/run_config.hpp"
#include "io/sample_order.hpp"

namespace hadal::engine {

// Micro-batches [begin, end) of a step.
struct Share {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
};

// Contiguous shares of `items` for each of `ranks`, the largest as small as possible, cut at the
// coarsest power of two that allows it: then a rank's share makes few nodes of the canonical sum.
std::vector<Share> shares(std::int64_t items, int ranks);

struct TrainingPlan {
  std::int64_t samples = 0;
  std::int64_t micro_batches = 0;  // V
  std::int64_t steps_per_epoch = 0;
  std::int64_t steps = 0;                 // of the whole run
  std::int64_t evaluate_every_steps = 0;  // 0: at the end only

  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch; }
  std::int64_t step_in_epoch(std::int64_t step) const { return step % steps_per_epoch; }
};

// Throws a config error for what cannot be trained: no step in an epoch, batches that do not
// divide, more ranks than micro-batches.
TrainingPlan plan_training(const TrainOptions& train, std::int64_t samples,
                           std::int64_t steps_per_epoch, int ranks);

// A length in whole steps, at least 1 (0 stays 0).
std::int64_t in_steps(const Span& span, std::int64_t steps_per_epoch);

// The sample order's options for a training split. Decides `automatic` from the data alone: `full`
// for files without chunks, one row a chunk, or less than 64 GiB in all, else `block`.
io::OrderOptions order_options(const RunConfig& config, const io::DataIndex& index);

// Bytes that are decoded in an epoch for each byte of the samples, about: a chunk that falls out of
// memory (`data.memory`) before all its samples were asked for is decoded again.
double decoding_amplification(const RunConfig& config, const io::DataIndex& index, int ranks);

// The best values near `micro_batches` for a number of ranks: V = ranks * 2^k.
std::vector<std::int64_t> good_micro_batches(std::int64_t micro_batches, int ranks);

}  // namespace hadal::engine
