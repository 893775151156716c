#pragma once
// The canonical sum on a device: nodes that lie in different places of its memory, added in the
// shape of the tree, up to 32 of them in one pass.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/canonical_fold.hpp"
#include "engine/device/device_array.hpp"
#include "engine/gradient_pool.hpp"

namespace hadal::engine {

class DeviceSum {
 public:
  explicit DeviceSum(Device& device) : device_(device) {}

  // In the lane: sum[i] = `target`'s value at arena element begin + i, out of sources that hold its
  // present leaves, each once; nodes outside of it are left alone. `sum` may lie in one of them, at
  // the same elements. Calls in one lane only.
  void run(Device::Lane lane, const Leaves& leaves, kernels::TreeNode target,
           std::span<const GradientSource> sources, std::int64_t begin, std::span<float> sum);

 private:
  struct Expression;
  struct Call;

  Expression value_of(Call& call, kernels::TreeNode node);
  Expression join(Call& call, Expression left, Expression right);
  void carry_out(const Call& call, const Expression& expression, std::span<float> to);

  Device& device_;
  std::vector<DeviceArray<float>> scratch_;  // for sums of more sources than a pass takes
};

}  // namespace hadal::engine
