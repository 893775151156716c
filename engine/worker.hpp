#pragma once
// One worker: a thread's own leaf tensors over the shared parameter memory, its own random
// generator, and the forward and backward of one micro-batch at a time. The bits of a micro-batch
// depend on its content, the parameters and its seed, not on the worker.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/arrival.hpp"
#include "engine/device/device.hpp"
#include "engine/objective.hpp"
#include "engine/weights.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

// Where the parameters lie that a worker computes with, in the layout of the arenas: the host's
// memory (engine/weights.hpp), or a device's.
struct ParameterPlace {
  float* trained = nullptr;
  float* frozen = nullptr;
  std::uint16_t* rounded = nullptr;  // null: there is no copy in bfloat16
  std::byte* constants = nullptr;    // in the layout of the model's constants
  Device* device = nullptr;          // null: the host
};

struct WorkerOptions {
  Precision precision = Precision::float32;
  Layout layout = Layout::automatic;
  bool graphs = true;   // of a device: record micro-batches and replay them (batch_graphs.hpp)
  bool repeats = true;  // the same micro-batch gives the same bits each time
};

struct MicroBatchResult {
  float loss = 0;  // scaled: the micro-batch's part of the step's loss
  BufferValues buffers;
  std::vector<std::uint8_t> arrived;  // by arena entry: whether it got a gradient
  // Of what `arrived` of the call heard.
  Told told = Told::now;
  // Of a device, until Worker::collect(): loss and buffers on their way.
  struct Pending;
  std::shared_ptr<Pending> pending;
};

class Worker {
 public:
  // All must outlive the worker; the weights stay where they are. Only the model's own operators
  // run in lower precision: its outputs are float32 again. Where the layout is automatic, images
  // have their channels last in lower precision, if the model prefers that.
  Worker(const Model& model, const Objective& objective, Weights& weights,
         const ParameterPlace& place, const WorkerOptions& options);
  ~Worker();

  // Forward and backward of the sum of (mean loss * factor), one factor a term of the objective.
  // `gradient` (an arena) receives every gradient, zeros where a parameter gets none and as
  // padding. `arrived` hears of each entry once, when it is there for good: most while backward
  // goes on. Call from one thread at a time. In both calls the buffers of the weights stay as they
  // are. On a device the gradient is device memory with zeros as padding already; the call queues
  // its work in the compute lane and returns; where it has been recorded, `arrived` hears nothing.
  MicroBatchResult train(const io::Batch& batch, std::span<const float> factors, std::uint64_t seed,
                         std::span<float> gradient, const Arrived& arrived = {});

  // Loss and buffers of a result of a device's worker, once they are there. Waits.
  static void collect(Device& device, MicroBatchResult& result);

  // Forward only, in evaluation mode: the model's outputs as `present(number, output)` makes them,
  // in the host's memory.
  using Present = std::function<at::Tensor(std::size_t number, const at::Tensor& output)>;
  std::vector<at::Tensor> predict(const io::Batch& batch, const Present& present = {});

  // The same, and the objective's sums over them.
  Objective::Sums evaluate(const io::Batch& batch);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal::engine
