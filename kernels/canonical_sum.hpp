#pragma once
// The canonical sum: V leaves are added in one fixed binary tree, whoever holds them. Leaves are
// numbered from 0 and padded to a power of two; a node is the sum of its two children, or the one
// child that exists. Floating-point addition is commutative bit for bit, so the result depends on
// the shape of the tree alone, not on who adds what to what.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/stream.hpp"

namespace hadal::kernels {

// Node `index` of level `level` covers the leaves [index << level, (index + 1) << level).
struct TreeNode {
  int level = 0;
  std::int64_t index = 0;

  std::int64_t begin() const { return index << level; }
  std::int64_t end() const { return (index + 1) << level; }
  TreeNode sibling() const { return {level, index ^ 1}; }
  TreeNode parent() const { return {level + 1, index >> 1}; }
  auto operator<=>(const TreeNode&) const = default;
};

// Smallest power of two that is not below `leaves` (1 for 0).
std::int64_t padded_leaves(std::int64_t leaves);

// The maximal nodes that cover the leaves [begin, end) exactly, from left to right: at most
// 2 log2(end - begin) of them, one where the range is an aligned power of two.
std::vector<TreeNode> covering_nodes(std::int64_t begin, std::int64_t end);

// sum[i] = a[i] + b[i]. Spans of equal length; `sum` is one of the two or overlaps neither.
void add(std::span<float> sum, std::span<const float> a, std::span<const float> b);

// sum[i] += addend[i].
inline void add_into(std::span<float> sum, std::span<const float> addend) { add(sum, sum, addend); }

// sum[i] += factor * addend[i], with one rounding (fused) on every processor.
void add_scaled(std::span<float> sum, float factor, std::span<const float> addend);

// Values in the shape of a tree, as a GPU adds them up in one pass: in postfix order, a clear bit
// of `adds` takes the next source, a set one joins the last two values.
struct SumProgram {
  static constexpr int kMostSources = 32;
  // Values that wait at once, where of two sides the one that needs more is taken first.
  static constexpr int kDepth = 6;
  const float* sources[kMostSources] = {};  // device memory, each from the first element on
  std::uint64_t adds = 0;
  int length = 0;  // in bits; 2 * sources - 1
  int source_count() const { return (length + 1) / 2; }
};

// sum[i] = the program's value of element i; `sum` is device memory, one of the sources or apart
// from all of them.
void run_sum(Stream stream, const SumProgram& program, std::span<float> sum);

// sum[i] += addend[i] in device memory.
void add_into(Stream stream, std::span<float> sum, std::span<const float> addend);

}  // namespace hadal::kernels
