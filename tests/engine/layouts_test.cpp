// The run is a function of its config: drawn configs, each on drawn numbers of ranks, workers and
// hosts, whole and cut.

#include <fmt/format.h>

#include <random>

#include "tests/engine/experiment.hpp"

using namespace hadal;
using namespace hadal::tests;

namespace {

struct Layout {
  int ranks = 1;
  int workers = 1;
  int ranks_per_host = 1;
};

class Draws {
 public:
  explicit Draws(std::uint64_t seed) : engine_(seed) {}

  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool coin() { return between(0, 1) == 1; }
  template <class Value>
  Value one_of(std::initializer_list<Value> values) {
    return *(values.begin() + between(0, static_cast<std::int64_t>(values.size()) - 1));
  }

 private:
  std::mt19937_64 engine_;
};

Layout draw_layout(Draws& draws, const engine::TrainOptions& train) {
  const std::int64_t micro_batches = train.global_batch / train.micro_batch;
  const auto parts = engine::wire_parts(train);
  const auto ranks = draws.between(2, std::min<std::int64_t>(8, micro_batches));
  const auto hosts = draws.between(1, std::min({std::int64_t{4}, ranks, parts ? parts->count : 4}));
  return {.ranks = static_cast<int>(ranks),
          .workers = static_cast<int>(draws.between(1, 4)),
          .ranks_per_host = static_cast<int>((ranks + hosts - 1) / hosts)};
}

// Changes a config and says how.
std::string draw_options(Draws& draws, engine::RunConfig& config) {
  using engine::OptimizerKind;
  const std::int64_t micro_batches = draws.between(8, 24);
  config.train.micro_batch = draws.between(2, 4);
  config.train.global_batch = micro_batches * config.train.micro_batch;
  config.train.length = {5, engine::Span::Unit::steps};
  config.train.evaluate_every = {3, engine::Span::Unit::steps};
  // Short and empty micro-batches too, where batch norm does not forbid one of a single sample.
  config.data.drop_last = config.model.kind == "convnet" || draws.coin();
  config.train.clip_norm = draws.coin() ? std::optional(0.05) : std::nullopt;
  config.train.precision = draws.one_of(
      {engine::Precision::float32, engine::Precision::bfloat16, engine::Precision::float16});
  config.train.wire = draws.one_of({engine::Wire::float32, engine::Wire::bfloat16});
  // Whose rest would keep the old scale of the loss.
  if (config.train.precision == engine::Precision::float16) {
    config.train.wire = engine::Wire::float32;
  }
  config.train.wire_parts = draws.one_of({2, 4, 8});
  config.optimizer.kind = draws.one_of(
      {OptimizerKind::sgd, OptimizerKind::adamw, OptimizerKind::lamb, OptimizerKind::lars});
  config.optimizer.momentum = draws.coin() ? 0.9 : 0.0;
  config.optimizer.average = draws.coin() ? std::optional(0.5) : std::nullopt;
  if (draws.coin()) {
    config.optimizer.groups = {{.name = "0",
                                .match = {"*bias"},
                                .freeze = true,
                                .until = engine::Span{3, engine::Span::Unit::steps}}};
  }
  return fmt::format(
      "{}: {} micro-batches of {}, drop_last {}, optimizer {}, momentum {}, clipped {}, averaged "
      "{}, "
      "precision {}, wire {} in {} parts, thawing {}",
      config.model.kind, micro_batches, config.train.micro_batch, config.data.drop_last,
      static_cast<int>(config.optimizer.kind), config.optimizer.momentum,
      config.train.clip_norm.has_value(), config.optimizer.average.has_value(),
      static_cast<int>(config.train.precision), static_cast<int>(config.train.wire),
      config.train.wire_parts, config.optimizer.groups.size());
}

}  // namespace

TEST_CASE("drawn configs give the same bits on drawn ranks, workers and hosts") {
  constexpr int kConfigs = 12;
  const tests::TemporaryFolder folder;
  make_data(folder / "train.h5", 202);
  make_data(folder / "valid.h5", 21);
  Draws draws(20);
  for (int number = 0; number < kConfigs; ++number) {
    engine::RunConfig config =
        config_in(folder.path(), draws.one_of<std::string>({"mlp", "convnet"}));
    const std::string options = draw_options(draws, config);
    CAPTURE(number, options);
    auto next_run = [&, run = 0]() mutable {
      config.run.dir = folder / fmt::format("{} {}", number, run++);
    };
    QuietObserver one;
    next_run();
    REQUIRE(train(config, 1, 1, one).step == 5);
    const std::string expected = model_of(config);
    for (const bool cut : {false, true}) {
      next_run();
      Layout layout = draw_layout(draws, config.train);
      QuietObserver other;
      if (cut) {
        const std::int64_t stop_at = draws.between(1, 4);
        CAPTURE(layout.ranks, layout.workers, layout.ranks_per_host, stop_at);
        REQUIRE(train(config, layout.ranks, layout.workers, other, stop_at, layout.ranks_per_host)
                    .stopped == engine::StopReason::usr1);
        layout = draw_layout(draws, config.train);
      }
      CAPTURE(layout.ranks, layout.workers, layout.ranks_per_host, cut);
      train(config, layout.ranks, layout.workers, other, -1, layout.ranks_per_host);
      REQUIRE(other.step == 5);
      REQUIRE(other.losses.back() == one.losses.back());
      REQUIRE(model_of(config) == expected);
    }
  }
}
