#include "engine/device/device_sum.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/error.hpp"
#include "kernels/canonical_sum.hpp"

namespace hadal::engine {

using kernels::SumProgram;

// A node's value in postfix order.
struct DeviceSum::Expression {
  std::vector<const float*> sources;
  std::vector<bool> adds;
  int depth = 1;  // values that wait at once
};

struct DeviceSum::Call {
  Device::Lane lane;
  const Leaves& leaves;
  std::span<const GradientSource> sources;
  std::int64_t begin;
  std::size_t count;
  std::size_t scratch_used = 0;
};

void DeviceSum::run(Device::Lane lane, const Leaves& leaves, kernels::TreeNode target,
                    std::span<const GradientSource> sources, std::int64_t begin,
                    std::span<float> sum) {
  if (sum.empty()) return;
  Call call{lane, leaves, sources, begin, sum.size()};
  const Expression value = value_of(call, target);
  if (value.sources.size() == 1) {
    if (value.sources.front() == sum.data()) return;
    device_.copy(lane, std::as_writable_bytes(sum),
                 std::as_bytes(std::span(value.sources.front(), sum.size())));
    return;
  }
  carry_out(call, value, sum);
}

DeviceSum::Expression DeviceSum::value_of(Call& call, kernels::TreeNode node) {
  const auto found = std::find_if(call.sources.begin(), call.sources.end(),
                                  [&](const GradientSource& s) { return s.node == node; });
  if (found != call.sources.end()) return {{found->values + call.begin}, {false}};
  if (node.level == 0) {
    throw io::Error(io::ErrorKind::bug,
                    fmt::format("nobody holds the gradient of micro-batch {}", node.index));
  }
  const kernels::TreeNode left{node.level - 1, 2 * node.index};
  const kernels::TreeNode right = left.sibling();
  if (!call.leaves.any(left)) return value_of(call, right);
  if (!call.leaves.any(right)) return value_of(call, left);
  Expression first = value_of(call, left);
  return join(call, std::move(first), value_of(call, right));
}

// Addition is commutative bit for bit, so the side on which more values wait goes first.
DeviceSum::Expression DeviceSum::join(Call& call, Expression left, Expression right) {
  while (left.sources.size() + right.sources.size() > SumProgram::kMostSources) {
    Expression& larger = left.sources.size() >= right.sources.size() ? left : right;
    if (call.scratch_used == scratch_.size()) scratch_.emplace_back();
    DeviceArray<float>& place = scratch_[call.scratch_used++];
    if (place.size() < call.count) place = DeviceArray<float>(device_, call.count);
    carry_out(call, larger, place.span().first(call.count));
    larger = {{place.data()}, {false}};
  }
  if (left.depth < right.depth) std::swap(left, right);
  left.depth = std::max(left.depth, right.depth + 1);
  left.sources.insert(left.sources.end(), right.sources.begin(), right.sources.end());
  left.adds.insert(left.adds.end(), right.adds.begin(), right.adds.end());
  left.adds.push_back(true);
  return left;
}

void DeviceSum::carry_out(const Call& call, const Expression& expression, std::span<float> to) {
  SumProgram program{.length = static_cast<int>(expression.adds.size())};
  std::copy(expression.sources.begin(), expression.sources.end(), program.sources);
  for (std::size_t bit = 0; bit < expression.adds.size(); ++bit) {
    if (expression.adds[bit]) program.adds |= std::uint64_t{1} << bit;
  }
  kernels::run_sum(device_.stream(call.lane), program, to);
}

}  // namespace hadal::engine
