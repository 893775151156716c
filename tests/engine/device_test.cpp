// What runs on GPUs, on their twin: whole runs have the bits of those on the host's cores.
#include <array>

#include "engine/device/device_communicator.hpp"
#include "engine/device/device_reducer.hpp"
#include "tests/engine/experiment.hpp"

using namespace hadal;
using namespace hadal::tests;

namespace {

const engine::Place kTwin{.device = {engine::DeviceKind::twin, 0}};

// Of either sign and of many magnitudes, so that another order of additions shows.
float value_of(std::int64_t leaf, std::int64_t element) {
  const std::uint64_t random =
      io::mix(2, static_cast<std::uint64_t>(leaf), static_cast<std::uint64_t>(element));
  return std::ldexp(static_cast<float>(random >> 40) / 16777216.0f - 0.5f,
                    static_cast<int>(random % 20));
}

float tree_sum(const engine::Leaves& leaves, kernels::TreeNode node, std::int64_t element) {
  if (node.level == 0) return value_of(node.index, element);
  const kernels::TreeNode left{node.level - 1, 2 * node.index};
  if (!leaves.any(left)) return tree_sum(leaves, left.sibling(), element);
  if (!leaves.any(left.sibling())) return tree_sum(leaves, left, element);
  return tree_sum(leaves, left, element) + tree_sum(leaves, left.sibling(), element);
}

void check_reduction(engine::Communicator& comm, const std::vector<bool>& present) {
  const engine::ArenaLayout layout({{"a", {70, 70}}, {"b", {3}}, {"c", {9000}}},
                                   engine::ArenaLayout::Holds::trained,
                                   {.first = 1000, .later = 3000});  // four buckets
  const auto device = engine::twin_device();
  const auto messages = engine::staged_communicator(comm, *device);
  const std::vector<engine::Share> shares = engine::shares(std::ssize(present), comm.size());
  engine::DeviceReducer reducer(comm, *device, *messages, layout, shares);
  const engine::Leaves leaves(present);
  const auto count = static_cast<std::size_t>(layout.size());
  for (int round = 0; round < 2; ++round) {
    std::vector<std::vector<float>> memory;
    std::vector<engine::GradientSource> own;
    const engine::Share mine = shares[static_cast<std::size_t>(comm.rank())];
    for (std::int64_t leaf = mine.begin; leaf < mine.end; ++leaf) {
      if (!leaves.any(leaf, leaf + 1)) continue;
      std::vector<float>& values = memory.emplace_back(count);
      for (std::size_t i = 0; i < count; ++i) {
        values[i] = value_of(leaf, static_cast<std::int64_t>(i));
      }
      own.push_back({{0, leaf}, values.data()});
    }
    if (memory.empty()) memory.emplace_back(count);
    std::span<float> result = memory.front();
    reducer.reduce(leaves, own, {}, result);
    const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
    std::size_t wrong = 0;
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      const engine::ArenaSlice slice = layout.slice(b, comm.rank(), comm.size());
      for (std::int64_t i = slice.begin; i < slice.end; ++i) {
        wrong += result[static_cast<std::size_t>(i)] == tree_sum(leaves, root, i) ? 0 : 1;
      }
    }
    if (wrong > 0) throw std::runtime_error("a sum has other bits");
    reducer.gather(result);
    for (std::size_t i = 0; i < count; ++i) {
      if (result[i] != tree_sum(leaves, root, static_cast<std::int64_t>(i))) {
        throw std::runtime_error("what was gathered has other bits");
      }
    }
    comm.barrier();
  }
}

}  // namespace

TEST_CASE("devices reduce to the canonical sum, whatever the ranks and shares") {
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    for (const int leaves : {8, 9, 13, 16}) {
      CAPTURE(ranks, leaves);
      std::vector<bool> present(static_cast<std::size_t>(leaves), true);
      const auto body = [&](engine::Communicator& comm) { check_reduction(comm, present); };
      REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, body));
      present[0] = present[3] = present[7] = false;
      REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, body));
    }
  }
}

TEST_CASE("sums of more nodes than a pass takes are the canonical ones") {
  const auto device = engine::twin_device();
  engine::DeviceSum sum(*device);
  std::vector<bool> present(100, true);
  present[50] = false;
  const engine::Leaves leaves(present);
  std::vector<std::vector<float>> memory;
  std::vector<engine::GradientSource> sources;
  for (std::int64_t leaf = 0; leaf < 100; ++leaf) {
    if (leaf == 50) continue;
    std::vector<float>& values = memory.emplace_back(40);
    for (std::size_t i = 0; i < 40; ++i) values[i] = value_of(leaf, static_cast<std::int64_t>(i));
    sources.push_back({{0, leaf}, values.data()});
  }
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  for (int round = 0; round < 2; ++round) {
    std::vector<float> result(30);
    sum.run(engine::Device::Lane::reduce, leaves, root, sources, 5, result);
    for (std::size_t i = 0; i < 30; ++i) {
      REQUIRE(result[i] == tree_sum(leaves, root, static_cast<std::int64_t>(i) + 5));
    }
  }
}

TEST_CASE("a run on devices has the bits of one on the host's cores") {
  using engine::OptimizerKind;
  for (const auto& [kind, optimizer] :
       std::vector<std::pair<std::string, OptimizerKind>>{{"mlp", OptimizerKind::adamw},
                                                          {"convnet", OptimizerKind::lamb},
                                                          {"mlp", OptimizerKind::lars},
                                                          {"convnet", OptimizerKind::sgd}}) {
    const TemporaryFolder folder;
    // The last step of an epoch has short micro-batches, and empty ones.
    make_data(folder / "train.h5", kind == "mlp" ? 52 : 45);
    make_data(folder / "valid.h5", 21);
    engine::RunConfig config = config_in(folder.path(), kind);
    config.optimizer.kind = optimizer;
    config.optimizer.momentum = 0.9;
    if (optimizer != OptimizerKind::adamw) config.optimizer.average = 0.5;
    if (kind == "convnet") config.train.precision = engine::Precision::bfloat16;
    QuietObserver host, device;
    train(config, 1, 1, host);
    const std::string expected = model_of(config);
    for (const int ranks : {1, 2, 3, 4, 6}) {
      CAPTURE(kind, static_cast<int>(optimizer), ranks);
      config.run.dir = folder / ("run " + std::to_string(ranks));
      train(config, ranks, kTwin, device);
      REQUIRE(device.losses == host.losses);
      REQUIRE(model_of(config) == expected);
      REQUIRE(device.evaluations.size() == host.evaluations.size());
      for (std::size_t e = 0; e < host.evaluations.size(); ++e) {
        REQUIRE(device.evaluations[e].values == host.evaluations[e].values);
      }
    }
    // From the host's cores to a device, to other devices, and back.
    config.run.dir = folder / "moved";
    REQUIRE(train(config, 2, 1, host, 3).stopped == engine::StopReason::usr1);
    REQUIRE(train(config, 4, kTwin, device, 7).step == 7);
    REQUIRE(train(config, 3, kTwin, device, 9).step == 9);
    REQUIRE(train(config, 1, 2, host).stopped == engine::StopReason::none);
    REQUIRE(model_of(config) == expected);
  }
}

TEST_CASE("a device's library sums in its own order, but for rounding with the same values") {
  Experiment experiment(48);
  QuietObserver canonical, fast;
  train(experiment.config, 3, kTwin, canonical);
  experiment.config.run.dir = experiment.folder / "fast";
  experiment.config.train.order = engine::SumOrder::fast;
  train(experiment.config, 3, kTwin, fast);
  REQUIRE(fast.losses.size() == canonical.losses.size());
  for (std::size_t step = 0; step < fast.losses.size(); ++step) {
    REQUIRE(fast.losses[step] == Approx(canonical.losses[step]).epsilon(1e-4));
  }
}

TEST_CASE("a step that is not finite on a device stops with its samples, or is skipped by all") {
  Experiment experiment(48);
  experiment.config.train.clip_norm.reset();
  experiment.config.optimizer = {.kind = engine::OptimizerKind::sgd, .lr = 1e30};
  QuietObserver host, device;
  const std::string message =
      error_of(io::ErrorKind::numeric, [&] { train(experiment.config, 3, kTwin, device); });
  REQUIRE(contains(message, "in micro-batch"));
  experiment.config.train.on_nonfinite = engine::OnNonFinite::skip;
  experiment.config.run.dir = experiment.folder / "host";
  train(experiment.config, 1, 1, host);
  const std::string expected = model_of(experiment.config);
  experiment.config.run.dir = experiment.folder / "device";
  train(experiment.config, 3, kTwin, device);
  REQUIRE(device.skipped > 5);
  REQUIRE(device.skipped == host.skipped);
  REQUIRE(model_of(experiment.config) == expected);
}

TEST_CASE("what a device cannot do yet is refused by name") {
  Experiment experiment(48);
  experiment.config.train.wire = engine::Wire::bfloat16;
  QuietObserver shown;
  const std::string message =
      error_of(io::ErrorKind::config, [&] { train(experiment.config, 1, kTwin, shown); });
  REQUIRE(contains(message, "train.wire"));
  REQUIRE(contains(message, "run.device"));
}
