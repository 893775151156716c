#pragma once
// Forward and backward of a micro-batch as one launch: what they queue on a device is recorded when
// it has been queued a few times, and replayed from then on. The host spends no more time on each
// operator, which is most of a step where batches are small. Nothing else changes: a recording is
// used only if it has given, of two micro-batches, the very bits of the operators queued one by
// one, and what cannot be recorded is queued as before.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/batch_tensors.hpp"
#include "engine/gradient_sink.hpp"

namespace hadal::engine {

// What a pass reads; it changes the buffers.
struct PassInputs {
  BatchTensors fields;
  std::vector<at::Tensor> factors;  // scalars, one a term of the objective; undefined: left out
  at::Tensor buffers;               // the bytes of the model's buffers
};

class BatchGraphs {
 public:
  // Forward and backward of these inputs, queued: the loss. Gradients go to the sink, which tells.
  using Pass = std::function<at::Tensor(const PassInputs&, GradientSink&, Arrived)>;
  // Brings the random generator to where the pass begins.
  using Seed = std::function<void()>;
  using Record = std::function<std::unique_ptr<Device::Graph>(const std::function<void()>& body,
                                                              std::string& trouble)>;

  struct Result {
    at::Tensor loss;
    at::Tensor buffers;
    std::vector<std::uint8_t> arrived;
    Told told = Told::now;
  };

  // `record` is Device::record. `repeats`: whether the same pass gives the same bits each time, so
  // that a recording can be compared.
  BatchGraphs(const ArenaLayout& layout, at::Device device, bool repeats, Pass pass, Record record);
  ~BatchGraphs();

  // In the device's compute lane. The inputs may be changed. `tell` of calls with the same gradient
  // memory has to be there always or never.
  Result run(PassInputs inputs, const Seed& seed, std::span<float> gradient, Arrived tell);

 private:
  struct Recording;
  using Key = std::pair<float*, bool>;

  Result queue(const PassInputs& inputs, const Seed& seed, std::span<float> gradient, Arrived tell);
  Result record(const PassInputs& inputs, const Seed& seed, std::span<float> gradient,
                const Arrived& tell);
  Result compare(const PassInputs& inputs, const Seed& seed, std::span<float> gradient,
                 Recording& recording);
  Result replay(const PassInputs& inputs, const Seed& seed, const Recording& recording);
  void fill_slot(const PassInputs& inputs);
  void stop(const std::string& reason);

  const ArenaLayout& layout_;
  at::Device device_;
  bool repeats_;
  Pass pass_;
  Record record_;
  std::vector<std::int64_t> shapes_;  // of the last inputs
  int seen_ = 0;                      // times that these shapes have come in a row
  bool stopped_ = false;
  // What recordings read and write; of one shape.
  std::vector<std::int64_t> slot_shapes_;
  PassInputs slot_;
  at::Tensor slot_loss_;
  std::unique_ptr<GradientSink> queued_;  // of the last call that was queued
  std::map<Key, std::unique_ptr<Recording>> recordings_;
};

}  // namespace hadal::engine
