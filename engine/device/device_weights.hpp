#pragma once
// The weights on a device: every rank has all of them, as forward passes need them. The host's copy
// (engine/weights.hpp) is where they come from and what checkpoints, files and comparisons read; it
// is brought up to date when somebody is about to.

#include "engine/device/device_array.hpp"
#include "engine/device/device_communicator.hpp"
#include "engine/weights.hpp"

namespace hadal::engine {

class DeviceWeights {
 public:
  // Collective. All arguments must outlive it.
  DeviceWeights(Device& device, DeviceCommunicator& comm, const Weights& weights);

  std::span<float> parameters() const { return parameters_.span(); }
  std::span<float> frozen() const { return frozen_.span(); }
  // A copy in bfloat16, or empty.
  std::span<std::uint16_t> rounded() const { return rounded_.span(); }
  std::span<std::byte> constants() const { return constants_.span(); }

  // The host's values to the device.
  void push(const Weights& weights);
  // The device's parameters into the host's copy, which the ranks of the host share out. Collective
  // over the host.
  void pull(Weights& weights, HostMemory& host) const;
  // In the lane: rounds all parameters anew.
  void round(Device::Lane lane) const;

  // Of the device's memory.
  std::size_t bytes() const {
    return parameters_.bytes().size() + frozen_.bytes().size() + rounded_.bytes().size() +
           constants_.bytes().size();
  }

  // A hash of what the device holds, the same on all ranks or somebody's memory is at fault.
  std::uint64_t hash() const;

 private:
  Device& device_;
  DeviceArray<float> parameters_;
  DeviceArray<float> frozen_;
  DeviceArray<std::uint16_t> rounded_;
  DeviceArray<std::byte> constants_;
  DeviceArray<std::uint64_t> hash_;
  std::shared_ptr<void> pinned_;  // the host's copy
};

}  // namespace hadal::engine
