#pragma once
// What computes a step on a rank: the gradients of its micro-batches, their sum over all ranks, and
// the update. On the host (host_step.hpp) or on a device (device/device_step.hpp); the trainer, who
// decides, knows no difference.

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "engine/buffers.hpp"
#include "engine/canonical_fold.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

// A micro-batch to compute.
struct MicroBatchJob {
  std::int64_t leaf = 0;  // its number in the step
  const io::Batch* batch = nullptr;
  std::vector<float> factors;  // one a term of the objective
  std::uint64_t seed = 0;
};

class StepRunner {
 public:
  struct Computed {
    std::vector<float> losses;  // by job, scaled: their parts of the step's loss
    std::map<kernels::TreeNode, BufferSum> buffers;
    double compute_seconds = 0;  // forward and backward
    double reduce_seconds = 0;   // from then on, where the sum was begun already
  };

  virtual ~StepRunner() = default;

  // Begins with the micro-batches of this rank's share that take part, in their order. Batches and
  // leaves must stay until the next begin().
  virtual void begin(const Leaves& leaves, std::vector<MicroBatchJob> jobs) = 0;
  // Waits for what begin() began. Throws what one of them threw. All ranks call it, whatever their
  // micro-batches did: sums may be under way.
  virtual Computed finish() = 0;

  // What follows is for when all ranks know that no micro-batch has failed.

  // Collective. The sum of all gradients; returns the sums of squares (kernels/norm.hpp) of the
  // blocks this rank owns, bucket by bucket.
  virtual std::vector<double> reduce() = 0;
  // Collective. The update, by the sum times `grad_scale`; all ranks have the new parameters.
  // `number` counts updates from 1.
  virtual void update(double lr, std::int64_t number, float grad_scale) = 0;

  // Collective. Exchanges the parameters with their moving average.
  virtual void swap_average() = 0;
  // Collective. Throws where a copy of the model has other bits than the others'.
  virtual void check_replicas(const std::string& when) = 0;
  // Collective over the host. Brings the host's copy of the parameters up to date, or that of all
  // that a checkpoint holds.
  virtual void parameters_to_host() {}
  virtual void state_to_host() {}

  // How long the step took as a whole.
  virtual void record(double) {}
  // Seconds spent waiting for other ranks, and bytes sent to other hosts, since the last call.
  virtual double take_wait_seconds() = 0;
  virtual std::int64_t take_sent_bytes() = 0;
};

}  // namespace hadal::engine
