#pragma once
// The canonical sum: V leaves are added in one fixed binary tree, whoever holds them. Leaves are
// numbered from 0 and padded to a power of two; a node is the sum of its two children, or the one
// child that exists. Floating-point addition is commutative bit for bit, so the result depends on
// the shape of the tree alone, not on who adds what to what.

#include <cstdint>
#include <span>
#include <vector>

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

}  // namespace hadal::kernels
