#pragma once
// A step on a device. The host queues a step's micro-batches one after the other; gradients are
// folded in the shape of the canonical tree as they come, and what several ranks add up starts
// behind the last backward pass, group of buckets after group. The host waits twice: for the
// losses, which all ranks look at together, and for the norm, which decides about the update.

#include <atomic>
#include <optional>

#include "engine/device/device_optimizer.hpp"
#include "engine/device/device_reducer.hpp"
#include "engine/session.hpp"
#include "engine/step_runner.hpp"

namespace hadal::engine {

class DeviceStep : public StepRunner {
 public:
  // Collective. All must outlive it; `shares[r]` are the micro-batches of rank r. Takes the
  // session's state to the device.
  DeviceStep(const RunConfig& config, Communicator& comm, Session& session,
             const std::vector<Share>& shares);
  ~DeviceStep() override;
  DeviceStep(const DeviceStep&) = delete;
  DeviceStep& operator=(const DeviceStep&) = delete;

  void begin(const Leaves& leaves, std::vector<MicroBatchJob> jobs) override;
  Computed finish() override;
  std::vector<double> reduce() override;
  void update(double lr, std::int64_t number, float grad_scale) override;
  void swap_average() override;
  void check_replicas(const std::string& when) override;
  void parameters_to_host() override;
  void state_to_host() override;
  double take_wait_seconds() override { return std::exchange(wait_seconds_, 0.0); }
  std::int64_t take_sent_bytes() override { return reducer_.take_sent_bytes(); }

 private:
  void compute(Worker& worker);
  void take_gradient(Worker& worker, std::size_t number);
  void settle_marks(Told told, std::vector<Device::Mark>& recorded);
  void start_sum();
  int take_buffer();
  std::span<float> values(int buffer) const {
    return buffers_[static_cast<std::size_t>(buffer)].span();
  }
  void gather();
  void follow_masters();
  void tell_memory();

  Communicator& comm_;
  Session& session_;
  Device& device_;
  DeviceCommunicator& messages_;
  DeviceWeights& weights_;
  TrainingState& state_;
  const ArenaLayout& layout_;
  bool fast_;
  Share share_;
  std::optional<DeviceRounding> rounding_;  // where gradients travel in bfloat16
  DeviceReducer reducer_;
  DeviceOptimizer optimizer_;
  std::vector<DeviceArray<float>> buffers_;  // of an arena's size
  int unwinding_;
  double wait_seconds_ = 0;
  bool memory_is_told_ = false;

  // Of the step.
  const Leaves* leaves_ = nullptr;
  std::vector<MicroBatchJob> jobs_;
  std::vector<MicroBatchResult> results_;
  std::optional<ThreadTeam::Running> work_;
  std::vector<int> free_;
  std::optional<CanonicalFold<int>> fold_;
  std::vector<std::size_t> missing_;    // by bucket: entries of the last micro-batch
  std::vector<Device::Mark> complete_;  // by bucket
  // By buffer: those that a recording of a last micro-batch sets.
  std::vector<std::vector<Device::Mark>> recorded_;
  std::span<float> gradient_;
};

}  // namespace hadal::engine
