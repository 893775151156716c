#pragma once
// One worker: a thread's own leaf tensors over the shared parameter memory, its own random
// generator, and the forward and backward of one micro-batch at a time. The bits of a micro-batch
// depend on its content, the parameters and its seed, not on the worker.

#include <memory>
#include <span>
#include <vector>

#include "engine/arena.hpp"
#include "engine/buffers.hpp"
#include "engine/model.hpp"
#include "engine/objective.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

struct MicroBatchResult {
  float loss = 0;  // scaled: the micro-batch's part of the step's loss
  BufferValues buffers;
};

class Worker {
 public:
  // `parameters` is the arena; it must outlive the worker.
  Worker(const Model& model, const ArenaLayout& layout, const Objective& objective,
         std::span<float> parameters);
  ~Worker();

  // Forward and backward of (mean loss * factor). `gradient` (an arena) receives every gradient,
  // zeros where a parameter gets none. Call from one thread at a time.
  MicroBatchResult train(const io::Batch& batch, float factor, std::uint64_t seed,
                         const BufferValues& buffers, std::span<float> gradient);

  // Forward only, in evaluation mode: the objective's sums.
  std::vector<double> evaluate(const io::Batch& batch, const BufferValues& buffers);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::engine
