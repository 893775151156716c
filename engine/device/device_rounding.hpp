#pragma once
// PartRounding on a device, for the parts of one rank: what rounding leaves out of them lies there.
// The host's copy is what checkpoints read and write.

#include <memory>
#include <vector>

#include "engine/device/device_array.hpp"
#include "engine/part_rounding.hpp"

namespace hadal::engine {

class DeviceRounding {
 public:
  // `share`: this rank's micro-batches, whole parts. `host` must outlive it.
  DeviceRounding(Device& device, const PartRounding& host, Share share, std::int64_t elements);

  int level() const { return host_.parts().level; }
  bool is_part(kernels::TreeNode node) const { return host_.is_part(node); }
  // In the lane: values = the elements from `begin` on of a part of this rank, rounded with what
  // the step before left out. Each element once a step.
  void round(Device::Lane lane, kernels::TreeNode part, std::int64_t begin,
             std::span<float> values) const;

  // What is left out, to the device and back.
  void push();
  void pull();

 private:
  Device& device_;
  const PartRounding& host_;
  std::int64_t first_;  // part of this rank
  std::vector<DeviceArray<float>> left_out_;
  std::vector<std::shared_ptr<void>> pinned_;  // the host's copies of it
};

}  // namespace hadal::engine
