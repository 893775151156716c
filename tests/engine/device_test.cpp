// What runs on GPUs, on their twin: whole runs have the bits of those on the host's cores.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <array>
#include <atomic>

#include "engine/device/device_reducer.hpp"
#include "engine/device/device_sum.hpp"
#include "tests/engine/device_check.hpp"
#include "tests/engine/experiment.hpp"
#include "tests/support/devices.hpp"

using namespace hadal;
using namespace hadal::tests;

namespace {

const engine::Place kTwin{.device = {engine::DeviceKind::twin, 0}};

// Counts the bytes that leave a host of so many ranks.
class Counting : public engine::DeviceCommunicator {
 public:
  Counting(engine::Communicator& comm, engine::Device& device, int host,
           std::atomic<std::size_t>& far)
      : inner_(engine::staged_communicator(comm, device)),
        host_(host),
        own_(comm.rank() / host),
        far_(far) {}
  std::string name() const override { return inner_->name(); }
  engine::Device::Memory allocate(std::size_t bytes) override { return inner_->allocate(bytes); }
  void exchange(std::span<const engine::Outgoing> out, std::span<const engine::Incoming> in,
                engine::Device::Lane lane) override {
    for (const engine::Outgoing& message : out) {
      if (message.to / host_ != own_) far_ += message.bytes.size();
    }
    inner_->exchange(out, in, lane);
  }
  void all_reduce(std::span<float> values, engine::Device::Lane lane) override {
    inner_->all_reduce(values, lane);
  }
  bool blocks() const override { return inner_->blocks(); }

 private:
  std::unique_ptr<engine::DeviceCommunicator> inner_;
  int host_;
  int own_;
  std::atomic<std::size_t>& far_;
};

}  // namespace

TEST_CASE("devices exchange messages and reduce to the canonical sum") {
  for (const int ranks : {1, 2, 3, 4, 5, 6, 8, 12}) {
    for (const int leaves : {8, 9, 12, 13, 16}) {
      if (leaves < ranks) continue;
      CAPTURE(ranks, leaves);
      std::vector<bool> present(static_cast<std::size_t>(leaves), true);
      const auto body = [&](engine::Communicator& comm) {
        const auto device = engine::twin_device();
        const auto messages = engine::staged_communicator(comm, *device);
        check_device_messages(comm, *device, *messages);
        check_device_reduction(comm, *device, *messages, present);
      };
      REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, body));
      present[0] = present[3] = present[7] = false;
      REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, body));
    }
  }
}

TEST_CASE("a gradient leaves a host once, however many devices the host has") {
  for (const auto& [ranks, host] : {std::pair(8, 4), {6, 2}, {12, 4}, {24, 8}, {12, 2}}) {
    CAPTURE(ranks, host);
    const engine::ArenaLayout layout({{"a", {700, 70}}, {"b", {3}}},
                                     engine::ArenaLayout::Holds::trained);
    std::atomic<std::size_t> far = 0;
    REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, [&](engine::Communicator& comm) {
      const auto device = engine::twin_device();
      Counting messages(comm, *device, host, far);
      engine::DeviceReducer reducer(comm, *device, messages, layout,
                                    engine::shares(2 * comm.size(), comm.size()));
      const engine::Leaves leaves(
          std::vector<bool>(static_cast<std::size_t>(2 * comm.size()), true));
      const engine::DeviceArray<float> gradient(*device, static_cast<std::size_t>(layout.size()));
      const std::vector<engine::GradientSource> own{{{1, comm.rank()}, gradient.data()}};
      reducer.reduce(leaves, own, {}, gradient.span());
      reducer.gather(gradient.span());
    }));
    // There, and back.
    const int hosts = ranks / host;
    REQUIRE(far == 2 * static_cast<std::size_t>(hosts - 1) *
                       static_cast<std::size_t>(layout.size()) * sizeof(float));
  }
}

TEST_CASE("sums of more nodes than a pass takes are the canonical ones") {
  for (const engine::DeviceChoice& choice : devices()) {
    const auto device = engine::open_device(choice, {});
    engine::DeviceSum sum(*device);
    std::vector<bool> present(100, true);
    present[50] = false;
    const engine::Leaves leaves(present);
    std::vector<std::vector<float>> values(100, std::vector<float>(40));
    std::vector<Mirror<float>> memory;
    std::vector<engine::GradientSource> sources;
    engine::CanonicalFold<float> expected(leaves, {0, 100}, [](float a, float b) { return a + b; });
    for (std::int64_t leaf = 0; leaf < 100; ++leaf) {
      if (leaf == 50) continue;
      std::vector<float>& mine = values[static_cast<std::size_t>(leaf)];
      for (std::size_t i = 0; i < mine.size(); ++i) {
        mine[i] = std::sin(static_cast<float>(leaf * 40 + static_cast<std::int64_t>(i))) * 1e3f;
      }
      expected.arrive(leaf, mine[5 + 7]);
      memory.emplace_back(*device, mine);
      sources.push_back({{0, leaf}, memory.back().data()});
    }
    const float right = expected.take().begin()->second;
    for (int round = 0; round < 2; ++round) {
      std::vector<float> result(30);
      Mirror<float> there(*device, result);
      sum.run(engine::Device::Lane::compute, leaves,
              kernels::covering_nodes(0, leaves.padded()).front(), sources, 5, there.span());
      there.fetch();
      REQUIRE(result[7] == right);
    }
  }
}

TEST_CASE("a run on devices has the bits of one on the host's cores") {
  using engine::OptimizerKind;
  struct Kind {
    std::string kind;
    OptimizerKind optimizer;
    std::int64_t wire_parts = 0;  // 0: gradients travel in float32
  };
  for (const auto& [kind, optimizer, wire_parts] :
       std::vector<Kind>{{"mlp", OptimizerKind::adamw},
                         {"convnet", OptimizerKind::lamb},
                         {"mlp", OptimizerKind::lars},
                         {"convnet", OptimizerKind::sgd},
                         {"mlp", OptimizerKind::adamw, 8},
                         {"convnet", OptimizerKind::lamb, 4},
                         {"mlp", OptimizerKind::sgd, 2}}) {
    const TemporaryFolder folder;
    // The last step of an epoch has short micro-batches, and empty ones.
    make_data(folder / "train.h5", kind == "mlp" ? 52 : 45);
    make_data(folder / "valid.h5", 21);
    engine::RunConfig config = config_in(folder.path(), kind);
    config.optimizer.kind = optimizer;
    config.optimizer.momentum = 0.9;
    if (optimizer != OptimizerKind::adamw) config.optimizer.average = 0.5;
    if (optimizer == OptimizerKind::lamb) config.train.precision = engine::Precision::bfloat16;
    if (optimizer == OptimizerKind::sgd && wire_parts == 0) {
      config.train.precision = engine::Precision::float16;
    }
    int most_ranks = 6;
    if (wire_parts > 0) {
      config.train.wire = engine::Wire::bfloat16;
      config.train.wire_parts = wire_parts;
      // Of 6 micro-batches in a tree of 8 leaves.
      most_ranks = static_cast<int>((6 * wire_parts + 7) / 8);
    }
    QuietObserver host, device;
    train(config, 1, 1, host);
    const std::string expected = model_of(config);
    for (const int ranks : {1, 2, 3, 4, 6}) {
      if (ranks > most_ranks) continue;
      CAPTURE(kind, static_cast<int>(optimizer), wire_parts, ranks);
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
    REQUIRE(train(config, std::min(4, most_ranks), kTwin, device, 7).step == 7);
    REQUIRE(train(config, std::min(3, most_ranks), kTwin, device, 9).step == 9);
    REQUIRE(train(config, 1, 2, host).stopped == engine::StopReason::none);
    REQUIRE(model_of(config) == expected);
  }
}

TEST_CASE("a script trains on devices as on the host's cores") {
  Experiment experiment(45);
  torch::jit::Module module("Net");
  const auto weight = [](std::int64_t from, std::int64_t to) {
    return at::arange(from * to).to(at::kFloat).sin().mul(0.2).view({from, to}).requires_grad_();
  };
  module.register_parameter("first", weight(36, 16), /*is_buffer=*/false);
  module.register_parameter("second", weight(16, 3), /*is_buffer=*/false);
  module.define(R"(
def forward(self, x):
    y = torch.relu(torch.matmul(x.flatten(1), self.first))
    return torch.matmul(y, self.second) + torch.zeros([3], device=torch.device("cpu"))
)");
  experiment.config.model.kind = "";
  experiment.config.model.script = (experiment.folder / "net.pt").string();
  module.save(experiment.config.model.script);
  QuietObserver host;
  train(experiment.config, 1, 1, host);
  const std::string expected = model_of(experiment.config);
  for (const engine::DeviceChoice& choice : devices()) {
    const bool twin = choice.kind == engine::DeviceKind::twin;
    for (const int ranks : {1, 3}) {
      if (!twin && ranks > 1) continue;  // they would share a GPU
      CAPTURE(twin, ranks);
      experiment.config.run.dir =
          experiment.folder / ((twin ? "twin " : "cuda ") + std::to_string(ranks));
      QuietObserver device;
      train(experiment.config, ranks, engine::Place{.device = choice}, device);
      REQUIRE(device.losses.size() == host.losses.size());
      for (std::size_t step = 0; step < host.losses.size(); ++step) {
        // A GPU multiplies matrices in an order of its own.
        REQUIRE(device.losses[step] == Approx(host.losses[step]).epsilon(twin ? 0 : 1e-3));
      }
      if (twin) REQUIRE(model_of(experiment.config) == expected);
    }
  }
}

TEST_CASE("a device's library sums in its own order, but for rounding with the same values") {
  // In the last step of an epoch, some ranks have no samples.
  Experiment experiment(25);
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

TEST_CASE("an empty array is nowhere") {
  const auto device = engine::twin_device();
  REQUIRE(engine::DeviceArray<float>(*device, 0).data() == nullptr);
  REQUIRE(engine::DeviceArray<float>(*device, 1).span().front() == 0.0f);
}

TEST_CASE("more devices than a step has parts are refused") {
  Experiment experiment(48);
  experiment.config.train.wire = engine::Wire::bfloat16;
  experiment.config.train.wire_parts = 2;
  QuietObserver shown;
  const std::string message =
      error_of(io::ErrorKind::config, [&] { train(experiment.config, 3, kTwin, shown); });
  REQUIRE(contains(message, "3 devices, but there are at most 2"));
  REQUIRE(contains(message, "raise wire_parts"));
}

TEST_CASE("ranks on devices that NCCL cannot use are told so, all of them") {
  if (!engine::has_nccl() || engine::cuda_device_count() > 0) return;
  const std::string message = error_of(io::ErrorKind::launch, [] {
    engine::run_ranks_as_threads(2, [](engine::Communicator& comm) {
      const auto device = engine::twin_device();
      engine::nccl_communicator(comm, *device, {.timeout = 20});
    });
  });
  CAPTURE(message);
  REQUIRE(contains(message, "NCCL says"));
}

TEST_CASE("a GPU that is not there is refused with the reason") {
  if (engine::cuda_device_count() > 0) return;
  const std::string message = error_of(io::ErrorKind::launch, [] {
    engine::open_device({engine::DeviceKind::cuda, 0}, {});
  });
  CAPTURE(message);
  REQUIRE(contains(message, "CUDA") + contains(message, "no NVIDIA driver") > 0);
  REQUIRE(contains(message, "run.device = \"cpu\""));
}
