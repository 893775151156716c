#pragma once
// The optimizer on a device: the states of the slices that a rank owns lie there, and one kernel
// goes over all of them. What is updated how comes from the host's Optimizer, whose own states are
// the copy that checkpoints read and write.

#include <memory>
#include <vector>

#include "engine/device/device_weights.hpp"
#include "engine/optimizer.hpp"
#include "kernels/masters.hpp"
#include "kernels/update_memory.hpp"

namespace hadal::engine {

class DeviceOptimizer {
 public:
  // All must outlive it.
  DeviceOptimizer(Device& device, Optimizer& optimizer, const ArenaLayout& layout, int rank,
                  int ranks);

  // The host's states to the device, and back.
  void push();
  void pull();

  // Of the device's memory.
  std::size_t bytes() const {
    std::size_t all = blocks_.bytes().size() + sums_.bytes().size() + rows_.bytes().size();
    for (const DeviceArray<float>& state : states_) all += state.bytes().size();
    all += used_.bytes().size() + changes_.bytes().size();
    return all;
  }

  // The sums of squares of the owned blocks, bucket by bucket, of a gradient in the arena's layout
  // that the lane has made. Waits, looking after `meanwhile`.
  std::vector<double> squares(Device::Lane lane, const float* gradient,
                              const std::function<void()>& meanwhile);

  // See Optimizer::measure(): two sums for each owned block, in order.
  std::vector<double> measure(const DeviceWeights& weights, const float* gradient, double lr,
                              std::int64_t update, float grad_scale);

  // In the compute lane: all owned slices. With `rounds`, also the copy in bfloat16. Where
  // parameters follow masters they stay as they are: whoever adds changes() to them follows.
  void update(const DeviceWeights& weights, const float* gradient, double lr, std::int64_t update,
              float grad_scale, bool rounds);

  bool has_masters() const { return optimizer_.master_state().has_value(); }
  // Of the owned slices, in the arena's layout; zeros elsewhere until others fill it.
  std::span<std::uint16_t> changes() const { return changes_.span(); }

  // In the compute lane: see Optimizer::swap_average().
  void swap_average(const DeviceWeights& weights);

 private:
  kernels::BlockTable table() const {
    return {blocks_.data(), static_cast<std::int64_t>(blocks_.size())};
  }
  kernels::UpdateMemory memory_of(const DeviceWeights& weights, const float* gradient) const;
  kernels::MasterMemory masters_of(const DeviceWeights& weights) const;
  void take_masters(const DeviceWeights& weights);
  template <class Step, class Make>
  const kernels::UpdateRow<Step>* rows(std::int64_t update, Make make);
  std::vector<double> take_sums(Device::Lane lane, std::size_t count,
                                const std::function<void()>& meanwhile);

  Device& device_;
  Optimizer& optimizer_;
  const ArenaLayout& layout_;
  DeviceArray<kernels::Block> blocks_;
  std::vector<DeviceArray<float>> states_;
  std::vector<std::shared_ptr<void>> pinned_;  // the host's copies of them
  DeviceArray<float> used_;                    // parameters while their masters are in their place
  DeviceArray<std::uint16_t> changes_;         // where they follow
  bool masters_are_taken_ = false;
  DeviceArray<double> sums_;
  DeviceArray<double> host_sums_;  // of the host, as what follows
  DeviceArray<std::byte> rows_;
  DeviceArray<std::byte> host_rows_;
};

}  // namespace hadal::engine
