#include "engine/canonical_fold.hpp"

#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <thread>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

// Neither associative nor commutative: which of two comes first counts too.
float add(float a, float b) { return a + 0.75f * b; }

// The definition, recursively: the sum of a node's two children, or the one that exists.
std::optional<float> tree(const std::vector<float>& leaves, const std::vector<bool>& present,
                          std::int64_t begin, std::int64_t size) {
  if (begin >= static_cast<std::int64_t>(leaves.size())) return std::nullopt;
  if (size == 1) {
    const auto i = static_cast<std::size_t>(begin);
    return present[i] ? std::optional(leaves[i]) : std::nullopt;
  }
  const auto left = tree(leaves, present, begin, size / 2);
  const auto right = tree(leaves, present, begin + size / 2, size / 2);
  if (left && right) return add(*left, *right);
  return left ? left : right;
}

}  // namespace

TEST_CASE("any shares, any order of arrival, any missing leaves: the same bits") {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 1);
  for (int trial = 0; trial < 300; ++trial) {
    const auto count = std::uniform_int_distribution<std::int64_t>(1, 24)(random);
    const auto ranks = std::uniform_int_distribution<int>(1, static_cast<int>(count))(random);
    std::vector<float> values;
    std::vector<bool> present;
    for (std::int64_t i = 0; i < count; ++i) {
      values.push_back(normal(random) * std::exp(5 * normal(random)));
      present.push_back(std::uniform_int_distribution<int>(0, 3)(random) != 0);
    }
    present[static_cast<std::size_t>(random() % static_cast<unsigned>(count))] = true;
    const engine::Leaves leaves(present);
    engine::CanonicalFold<float> join(leaves, {0, count}, add);
    std::vector<std::pair<kernels::TreeNode, float>> pieces;
    for (const engine::Share share : engine::shares(count, ranks)) {
      engine::CanonicalFold<float> fold(leaves, share, add);
      std::vector<std::int64_t> order;
      for (std::int64_t m = share.begin; m < share.end; ++m) {
        if (present[static_cast<std::size_t>(m)]) order.push_back(m);
      }
      std::shuffle(order.begin(), order.end(), random);
      for (const std::int64_t m : order) fold.arrive(m, values[static_cast<std::size_t>(m)]);
      std::vector<kernels::TreeNode> nodes;
      for (const auto& [node, value] : fold.take()) {
        nodes.push_back(node);
        pieces.emplace_back(node, value);
      }
      // What others expect this holder to send.
      REQUIRE((nodes == leaves.nodes(share)));
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (const auto& [node, value] : pieces) join.arrive(node, value);
    const auto root = join.take();
    REQUIRE(root.size() == 1);
    REQUIRE(root.begin()->second == tree(values, present, 0, leaves.padded()).value());
  }
}

TEST_CASE("threads fold into one root") {
  const std::vector<bool> present(64, true);
  std::vector<float> values(64);
  std::iota(values.begin(), values.end(), 0.0f);
  const engine::Leaves leaves(present);
  engine::CanonicalFold<float> fold(leaves, {0, 64}, add);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::int64_t m = t; m < 64; m += 4) fold.arrive(m, values[static_cast<std::size_t>(m)]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(fold.take().begin()->second == tree(values, present, 0, 64).value());
}
