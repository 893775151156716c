// Recorded passes on the twin: when they are recorded, what is heard of gradients, and what becomes
// of a recording that fails or gives other bits.
#include "engine/batch_graphs.hpp"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "tests/support/catch.hpp"
#include "tests/support/devices.hpp"

using namespace hadal;
using engine::Told;

namespace {

// A network of one parameter, whose loss depends on everything that a pass reads.
class Network {
 public:
  enum class Records { well, never, other_bits, kept_input, without_memory };

  explicit Network(Records records = Records::well)
      : records_(records),
        graphs_(
            layout_, at::kCPU, /*repeats=*/true,
            [this](const engine::PassInputs& in, engine::GradientSink& to, engine::Arrived tell) {
              return pass(in, to, std::move(tell));
            },
            [this](const std::function<void()>& body, std::string& trouble) {
              return record(body, trouble);
            }) {}

  engine::PassInputs inputs(float value, std::int64_t rows = 4, bool with_second = true) const {
    engine::PassInputs in;
    in.fields.inputs = {at::full({rows, 6}, value)};
    in.fields.targets = {at::full({rows}, 2, at::kLong)};
    in.factors = {at::scalar_tensor(value), with_second ? at::scalar_tensor(3.0) : at::Tensor()};
    in.buffers = at::full({4}, 7, at::kByte);
    return in;
  }

  // What it has to give.
  struct Values {
    float loss = 0;
    std::vector<float> gradient;
    std::vector<int> buffers;
    bool operator==(const Values&) const = default;
  };
  Values expected(const engine::PassInputs& given, std::uint64_t seed) {
    engine::PassInputs in = given;
    in.buffers = given.buffers.clone();
    std::vector<float> gradient(static_cast<std::size_t>(layout_.size()), 5.0f);
    engine::GradientSink sink(layout_, gradient, at::kCPU);
    generator_.set_current_seed(seed);
    const at::Tensor loss = pass(in, sink, {});
    return values(loss, gradient, in.buffers);
  }
  // With the gradient in memory number `memory`.
  Values run(engine::PassInputs in, std::uint64_t seed, int memory = 0, bool tells = true) {
    in.buffers = in.buffers.clone();
    std::vector<float>& gradient = memory_[static_cast<std::size_t>(memory)];
    gradient.resize(static_cast<std::size_t>(layout_.size()), 9.0f);
    heard = 0;
    engine::Arrived tell;
    if (tells) tell = [this](std::size_t) { ++heard; };
    const engine::BatchGraphs::Result result = graphs_.run(
        in, [&] { generator_.set_current_seed(seed); }, gradient, std::move(tell));
    told = result.told;
    REQUIRE(result.arrived == std::vector<std::uint8_t>{1, 0});
    return values(result.loss, gradient, result.buffers);
  }

  int heard = 0;
  Told told = Told::now;
  int recorded = 0;
  int replayed = 0;

 private:
  struct Graph : engine::Device::Graph {
    Graph(Network& n, std::function<void()> b) : network(n), body(std::move(b)) {}
    void replay() override {
      ++network.replayed;
      body();
      // As if the first input had gone into what is recorded.
      const bool kept = network.records_ == Records::kept_input && network.replayed > 1;
      if (network.records_ == Records::other_bits || kept) network.memory_[0][3] += 1;
    }
    Network& network;
    std::function<void()> body;
  };

  std::unique_ptr<engine::Device::Graph> record(const std::function<void()>& body,
                                                std::string& trouble) {
    ++recorded;
    if (records_ == Records::never) {
      trouble = "an operator waits";
      return nullptr;
    }
    body();
    if (records_ == Records::without_memory) {
      throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "full");
    }
    return std::make_unique<Graph>(*this, body);
  }

  at::Tensor pass(const engine::PassInputs& in, engine::GradientSink& to, engine::Arrived tell) {
    at::Tensor* const leaves[] = {&used_, &unused_};
    to.open(leaves, std::move(tell));
    in.buffers.add_(1);
    const at::Tensor noise = at::rand({6}, generator_);
    at::Tensor loss = (in.fields.inputs[0] * used_ * noise).sin().sum() * in.factors[0] +
                      in.fields.targets[0].sum();
    if (in.factors[1].defined()) loss = loss + used_.exp().sum() * in.factors[1];
    loss.backward();
    to.close();
    return loss.detach();
  }

  static Values values(const at::Tensor& loss, const std::vector<float>& gradient,
                       const at::Tensor& buffers) {
    Values all{.loss = loss.item<float>(), .gradient = gradient, .buffers = {}};
    for (std::int64_t k = 0; k < buffers.numel(); ++k)
      all.buffers.push_back(buffers[k].item<int>());
    return all;
  }

  Records records_;
  engine::ArenaLayout layout_{{{"unused", {3}}, {"used", {6}}},
                              engine::ArenaLayout::Holds::trained};
  // In the order of the arena, the reverse.
  at::Tensor used_ = at::linspace(0.1, 0.6, 6).requires_grad_();
  at::Tensor unused_ = at::ones({3}).requires_grad_();
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>();
  std::vector<float> memory_[3];
  engine::BatchGraphs graphs_;
};

}  // namespace

TEST_CASE("a pass is recorded when it has been queued three times, and replayed with its bits") {
  Network network;
  for (int turn = 0; turn < 9; ++turn) {
    CAPTURE(turn);
    const engine::PassInputs in = network.inputs(0.3f + 0.1f * static_cast<float>(turn));
    const auto seed = static_cast<std::uint64_t>(turn);
    const Network::Values expected = network.expected(in, seed);
    REQUIRE(network.run(in, seed) == expected);
    REQUIRE(network.recorded == (turn < 3 ? 0 : 1));
    REQUIRE(network.replayed == std::max(0, turn - 2));
    REQUIRE(network.told == (turn < 4 ? Told::now : Told::before));
    REQUIRE(network.heard == (turn < 4 ? 2 : 0));
  }
  // Gradients elsewhere, or without anybody who hears of them, are recordings of their own.
  const engine::PassInputs in = network.inputs(2);
  const Network::Values expected = network.expected(in, 1);
  for (int turn = 0; turn < 3; ++turn) {
    for (int memory = 0; memory < 3; ++memory) {
      REQUIRE(network.run(in, 1, memory, memory != 1) == expected);
    }
  }
  REQUIRE(network.recorded == 3);
  REQUIRE(network.told == Told::before);
}

TEST_CASE("other shapes, and a term that is left out, are queued beside the recorded ones") {
  Network network;
  for (int turn = 0; turn < 5; ++turn) network.run(network.inputs(1), 1);
  const int replayed = network.replayed;
  for (const engine::PassInputs& in : {network.inputs(2, 3), network.inputs(2, 4, false)}) {
    const Network::Values expected = network.expected(in, 4);
    for (int turn = 0; turn < 6; ++turn) {
      REQUIRE(network.run(in, 4) == expected);
      REQUIRE(network.told == Told::now);
      REQUIRE(network.heard == 2);
    }
  }
  REQUIRE(network.replayed == replayed);
  REQUIRE(network.recorded == 1);
  const engine::PassInputs in = network.inputs(5);
  REQUIRE(network.run(in, 3) == network.expected(in, 3));
  REQUIRE(network.replayed == replayed + 1);
}

TEST_CASE("shapes that change all the time are never recorded") {
  Network network;
  for (int turn = 0; turn < 12; ++turn) network.run(network.inputs(1, 1 + turn % 2), 1);
  REQUIRE(network.recorded == 0);
}

TEST_CASE("a pass that cannot be recorded, or that gives other bits then, is queued for good") {
  for (const auto records : {Network::Records::never, Network::Records::other_bits,
                             Network::Records::kept_input, Network::Records::without_memory}) {
    Network network(records);
    const int last_try = records == Network::Records::kept_input ? 4 : 3;
    for (int turn = 0; turn < 8; ++turn) {
      CAPTURE(turn);
      const engine::PassInputs in = network.inputs(static_cast<float>(turn));
      const Network::Values expected = network.expected(in, 6);
      REQUIRE(network.run(in, 6) == expected);
      REQUIRE(network.recorded == (turn < 3 ? 0 : 1));
      REQUIRE(network.told == (turn == last_try ? Told::wrong : Told::now));
    }
  }
}

TEST_CASE("what a GPU or its twin has recorded is done anew with what is there then") {
  using Lane = engine::Device::Lane;
  for (const engine::DeviceChoice& choice : tests::devices()) {
    CAPTURE(engine::name_of(choice.kind));
    const auto device = engine::open_device(choice, {});
    const auto region = device->enter(Lane::compute);
    const auto options = at::TensorOptions(at::kFloat).device(device->tensors());
    const at::Tensor in = at::zeros({5}, options), out = at::zeros({5}, options);
    const at::Tensor matrix = at::full({300, 300}, 1.0 / 300, options);
    engine::Device::Mark mark;
    const auto body = [&](bool waits) {
      const at::Tensor noise = at::rand({5}, device->generator(), options);
      // Long enough for a mark that comes too early to be seen.
      at::Tensor product = matrix;
      for (int k = 0; k < 50; ++k) product = product.matmul(matrix);
      out.copy_(in * 2 + noise + product.sum() * 0);
      if (waits && out.sum().item<float>() > 1e30f) out.zero_();
      mark = device->mark(Lane::compute);
    };
    // Calls that libraries set themselves up in.
    body(false);
    device->finish(Lane::compute);
    const auto expected = [&](float value, std::uint64_t seed) {
      device->generator().set_current_seed(seed);
      return at::full({5}, value, options) * 2 + at::rand({5}, device->generator(), options);
    };
    std::string trouble;
    for (int number = 0; number < 2; ++number) {
      device->generator().set_current_seed(1);
      const auto graph = device->record([&] { body(false); }, trouble);
      REQUIRE(graph != nullptr);
      for (const float value : {3.0f, 4.0f, 5.0f}) {
        const auto seed = static_cast<std::uint64_t>(value);
        const at::Tensor right = expected(value, seed);
        in.fill_(value);
        device->generator().set_current_seed(seed);
        graph->replay();
        device->wait(mark);
        REQUIRE(at::equal(out.cpu(), right.cpu()));
      }
      if (choice.kind != engine::DeviceKind::cuda) continue;
      // The host cannot wait in a recording; all goes on as before one was tried.
      REQUIRE(device->record([&] { body(true); }, trouble) == nullptr);
      REQUIRE(!trouble.empty());
    }
  }
}
