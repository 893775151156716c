#pragma once
// Folds values that arrive in any order, from any thread, in the shape of the canonical tree. A
// holder of the leaves [begin, end) ends with the maximal nodes of that range (at most 2 log2 of
// its length), whoever joins all holders' nodes with the root. Leaves that do not exist (empty
// micro-batches) count for nothing: a node is then the child that exists.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/plan.hpp"
#include "kernels/canonical_sum.hpp"

namespace hadal::engine {

// Which of V leaves exist.
class Leaves {
 public:
  explicit Leaves(const std::vector<bool>& present) : before_{0} {
    for (const bool p : present) before_.push_back(before_.back() + (p ? 1 : 0));
  }

  std::int64_t count() const { return static_cast<std::int64_t>(before_.size()) - 1; }
  std::int64_t padded() const { return kernels::padded_leaves(count()); }
  std::int64_t present() const { return before_.back(); }
  std::int64_t present(std::int64_t begin, std::int64_t end) const { return at(end) - at(begin); }
  bool any(kernels::TreeNode node) const { return any(node.begin(), node.end()); }
  bool any(std::int64_t begin, std::int64_t end) const {
    return begin < count() && at(std::min(end, count())) > at(begin);
  }
  // The leaves of a share, with the padding behind the last leaf.
  Share padded_share(Share share) const {
    return {share.begin, share.end == count() ? padded() : share.end};
  }
  // The nodes that the holder of a share ends with, in the order in which a map of them iterates:
  // sender and receiver of their contents must agree on it.
  std::vector<kernels::TreeNode> nodes(Share share) const {
    std::vector<kernels::TreeNode> found;
    if (share.count() == 0) return found;
    const Share wide = padded_share(share);
    for (const kernels::TreeNode node : kernels::covering_nodes(wide.begin, wide.end)) {
      if (any(node)) found.push_back(node);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::int64_t at(std::int64_t leaf) const { return before_[static_cast<std::size_t>(leaf)]; }
  std::vector<std::int64_t> before_;
};

template <class Value>
class CanonicalFold {
 public:
  // `add(a, b)` gives the sum of two nodes, a before b; `seal(node, value)`, if any, is called once
  // for each node that goes into its parent, before. Both run outside the lock.
  using Add = std::function<Value(Value, Value)>;
  using Seal = std::function<void(kernels::TreeNode, Value&)>;

  CanonicalFold(const Leaves& leaves, Share share, Add add, Seal seal = nullptr)
      : leaves_(leaves),
        range_(leaves.padded_share(share)),
        add_(std::move(add)),
        seal_(std::move(seal)) {}

  // With `adds` false it is left to stand beside its sibling.
  void arrive(std::int64_t leaf, Value value, bool adds = true) {
    arrive(kernels::TreeNode{0, leaf}, std::move(value), adds);
  }

  void arrive(kernels::TreeNode node, Value value, bool adds = true) {
    for (;;) {
      const kernels::TreeNode parent = node.parent();
      std::unique_lock lock(mutex_);
      if (!adds || parent.begin() < range_.begin || parent.end() > range_.end) {
        nodes_.emplace(node, std::move(value));
        return;
      }
      if (!leaves_.any(node.sibling())) {
        lock.unlock();
        if (seal_) seal_(node, value);
        node = parent;
        continue;
      }
      const auto sibling = nodes_.find(node.sibling());
      if (sibling == nodes_.end()) {
        nodes_.emplace(node, std::move(value));
        return;
      }
      Value other = std::move(sibling->second);
      nodes_.erase(sibling);
      lock.unlock();
      if (seal_) {
        seal_(node, value);
        seal_(node.sibling(), other);
      }
      if (node.sibling().begin() < node.begin()) std::swap(value, other);
      value = add_(std::move(value), std::move(other));
      node = parent;
    }
  }

  // What has arrived and been added so far. Not while others arrive.
  std::map<kernels::TreeNode, Value>& nodes() { return nodes_; }

  // The nodes, once every present leaf of the share has arrived: each leaf is in one of them.
  std::map<kernels::TreeNode, Value> take() { return std::move(nodes_); }

 private:
  const Leaves& leaves_;
  Share range_;
  Add add_;
  Seal seal_;
  std::mutex mutex_;
  std::map<kernels::TreeNode, Value> nodes_;
};

}  // namespace hadal::engine
