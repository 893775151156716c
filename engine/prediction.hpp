#pragma once
// Applies a model to data: every sample once, in dataset order, into one HDF5 file. Micro-batches
// are cut by number, so the file's bytes do not depend on the number of ranks; a start that was cut
// off is gone on with.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "engine/comm/communicator.hpp"
#include "engine/run.hpp"

namespace hadal::engine {

enum class PredictAs {
  outputs,        // the model's own
  probabilities,  // softmax or sigmoid, as the loss has it
  classes         // the most probable class, or 1 where a label is more probable than not
};

struct PredictOptions {
  std::filesystem::path output;
  std::filesystem::path weights;  // checkpoint folder or safetensors file; empty: the run's own
  PredictAs as = PredictAs::outputs;
};

struct Prediction {
  std::int64_t samples = 0;
  std::int64_t resumed = 0;  // of them, there before
  double seconds = 0;
};

// Collective. Predicts the samples of data.test. Datasets in the file: `output` (or `output_0`, …
// of a model with several), [samples, …] float32, int64 for classes, uint8 for labels; `ids`, or
// without data.ids `index`, int64. `on_progress(done, all)` is called now and then.
Prediction predict(const RunConfig& config, const Place& place, Communicator& comm,
                   const PredictOptions& options,
                   const std::function<void(std::int64_t done, std::int64_t all)>& on_progress);

}  // namespace hadal::engine
