#include "engine/tree_sum.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/error.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/norm.hpp"

namespace hadal::engine {
namespace {

// Sums between the leaves and the root stay in the core's cache.
constexpr std::int64_t kPiece = kernels::kNormBlock;

}  // namespace

TreeSum::TreeSum(const Leaves& leaves, kernels::TreeNode target,
                 std::span<const GradientSource> sources, const PartRounding* rounding)
    : rounding_(rounding), sources_(sources.begin(), sources.end()) {
  result_ = build(leaves, target, 0);
}

TreeSum::Operand TreeSum::build(const Leaves& leaves, kernels::TreeNode node, int depth) {
  const auto found = std::find_if(sources_.begin(), sources_.end(),
                                  [&](const GradientSource& s) { return s.node == node; });
  Operand value = 0;
  if (found != sources_.end()) {
    value = static_cast<Operand>(found - sources_.begin());
    if (found->rounded != nullptr) return append({.does = Step::Does::widen, .left = value}, depth);
  } else {
    value = sum_of(leaves, node, depth);
  }
  if (rounding_ == nullptr || !rounding_->is_part(node)) return value;
  return append({.does = Step::Does::round, .left = value, .part = node}, depth);
}

TreeSum::Operand TreeSum::sum_of(const Leaves& leaves, kernels::TreeNode node, int depth) {
  if (node.level == 0) {
    throw io::Error(io::ErrorKind::bug,
                    fmt::format("nobody holds the gradient of micro-batch {}", node.index));
  }
  const kernels::TreeNode left{node.level - 1, 2 * node.index};
  const kernels::TreeNode right = left.sibling();
  if (!leaves.any(left)) return build(leaves, right, depth);
  if (!leaves.any(right)) return build(leaves, left, depth);
  const Operand first = build(leaves, left, depth);
  const Operand second = build(leaves, right, first < 0 ? depth + 1 : depth);
  return append({.left = first, .right = second}, depth);
}

TreeSum::Operand TreeSum::append(Step step, int depth) {
  step.result = -1 - depth;
  steps_.push_back(step);
  scratch_ = std::max(scratch_, depth + 1);
  return step.result;
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
    const std::int64_t first = begin + static_cast<std::int64_t>(at);
    const auto scratch = [&](Operand o) {
      return memory.data() + static_cast<std::size_t>(-1 - o) * kPiece;
    };
    const auto operand = [&](Operand o) -> std::span<const float> {
      return {o >= 0 ? place(o, first) : scratch(o), count};
    };
    for (const Step& step : steps_) {
      const std::span<float> out(&step == &steps_.back() ? sum.data() + at : scratch(step.result),
                                 count);
      switch (step.does) {
        case Step::Does::add:
          kernels::add(out, operand(step.left), operand(step.right));
          break;
        case Step::Does::round:
          rounding_->round(step.part, first, out, operand(step.left));
          break;
        case Step::Does::widen:
          kernels::from_bfloat16(
              out, {sources_[static_cast<std::size_t>(step.left)].rounded + first, count});
          break;
      }
    }
  }
}

}  // namespace hadal::engine
