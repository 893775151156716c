#pragma once
// The canonical sum of nodes that lie in different places, compiled once into a list of additions
// and then run over any piece of the arena: memory is read once and written once.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/canonical_fold.hpp"
#include "engine/gradient_pool.hpp"
#include "engine/part_rounding.hpp"

namespace hadal::engine {

class TreeSum {
 public:
  // The sum that is `target`'s value. `sources` hold its present leaves, each once; nodes that lie
  // outside of it are left alone. With a rounding, parts are rounded, but for those that came
  // rounded from another host; it must outlive this.
  TreeSum(const Leaves& leaves, kernels::TreeNode target, std::span<const GradientSource> sources,
          const PartRounding* rounding);

  // The source itself where nothing is to be done, else null.
  const float* single() const { return steps_.empty() ? place(result_, 0) : nullptr; }

  // sum[i] = the value at arena element begin + i. `sum` may lie in one of the sources, at the
  // same elements. Any thread; where it rounds, each element once a step.
  void run(std::int64_t begin, std::span<float> sum) const;

 private:
  // A source (from 0), or scratch memory -1 - operand.
  using Operand = int;
  struct Step {
    enum class Does { add, round, widen };  // widen: a source in bfloat16
    Does does = Does::add;
    Operand left = 0;
    Operand right = 0;  // of an addition
    Operand result = 0;
    kernels::TreeNode part = {};  // that is rounded
  };

  Operand build(const Leaves& leaves, kernels::TreeNode node, int depth);
  Operand sum_of(const Leaves& leaves, kernels::TreeNode node, int depth);
  Operand append(Step step, int depth);
  const float* place(Operand source, std::int64_t begin) const {
    return sources_[static_cast<std::size_t>(source)].values + begin;
  }

  const PartRounding* rounding_;
  std::vector<GradientSource> sources_;
  std::vector<Step> steps_;
  Operand result_ = 0;
  int scratch_ = 0;
};

}  // namespace hadal::engine
