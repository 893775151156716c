#include "engine/tree_sum.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/error.hpp"
#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

// Sums between the leaves and the root stay in the core's cache.
constexpr std::int64_t kPiece = kernels::kNormBlock;

}  // namespace

TreeSum::TreeSum(const Leaves& leaves, kernels::TreeNode target,
                 std::span<const GradientSource> sources) {
  for (const GradientSource& source : sources) sources_.push_back(source.values);
  result_ = build(leaves, target, sources, 0);
}

TreeSum::Operand TreeSum::build(const Leaves& leaves, kernels::TreeNode node,
                                std::span<const GradientSource> sources, int depth) {
  const auto found = std::find_if(sources.begin(), sources.end(),
                                  [&](const GradientSource& s) { return s.node == node; });
  if (found != sources.end()) return static_cast<Operand>(found - sources.begin());
  if (node.level == 0) {
    throw io::Error(io::ErrorKind::bug,
                    fmt::format("nobody holds the gradient of micro-batch {}", node.index));
  }
  const kernels::TreeNode left{node.level - 1, 2 * node.index};
  const kernels::TreeNode right = left.sibling();
  if (!leaves.any(left)) return build(leaves, right, sources, depth);
  if (!leaves.any(right)) return build(leaves, left, sources, depth);
  const Operand first = build(leaves, left, sources, depth);
  const Operand second = build(leaves, right, sources, first < 0 ? depth + 1 : depth);
  steps_.push_back({first, second, -1 - depth});
  scratch_ = std::max(scratch_, depth + 1);
  return -1 - depth;
}

void TreeSum::run(std::int64_t begin, std::span<float> sum) const {
  if (steps_.empty()) {
    const float* const source = place(result_, begin);
    if (source != sum.data()) std::copy_n(source, sum.size(), sum.data());
    return;
  }
  thread_local std::vector<float> memory;
  memory.resize(static_cast<std::size_t>(scratch_ * kPiece));
  for (std::size_t at = 0; at < sum.size(); at += kPiece) {
    const std::size_t count = std::min<std::size_t>(kPiece, sum.size() - at);
    const auto operand = [&](Operand o) -> const float* {
      if (o >= 0) return place(o, begin) + at;
      return memory.data() + static_cast<std::size_t>(-1 - o) * kPiece;
    };
    for (const Step& step : steps_) {
      float* const out = &step == &steps_.back()
                             ? sum.data() + at
                             : memory.data() + static_cast<std::size_t>(-1 - step.sum) * kPiece;
      kernels::add({out, count}, {operand(step.left), count}, {operand(step.right), count});
    }
  }
}

}  // namespace hadal::engine
