#include <array>

#include "tests/engine/experiment.hpp"

using namespace hadal;
using namespace hadal::tests;

TEST_CASE("the library's order of sums gives the canonical one's values but for rounding") {
  Experiment experiment(48);
  QuietObserver canonical, fast;
  train(experiment.config, 3, 1, canonical);
  experiment.config.run.dir = experiment.folder / "fast";
  experiment.config.train.order = engine::SumOrder::fast;
  train(experiment.config, 3, 1, fast);
  REQUIRE(fast.losses.size() == canonical.losses.size());
  for (std::size_t step = 0; step < fast.losses.size(); ++step) {
    REQUIRE(fast.losses[step] == Approx(canonical.losses[step]).epsilon(1e-4));
  }
}

TEST_CASE("ranks, workers and interruptions change no bit") {
  using engine::OptimizerKind;
  for (const auto& [kind, optimizer] :
       std::vector<std::pair<std::string, OptimizerKind>>{{"mlp", OptimizerKind::adamw},
                                                          {"convnet", OptimizerKind::lamb},
                                                          {"mlp", OptimizerKind::lars}}) {
    const tests::TemporaryFolder folder;
    // The last step of an epoch has short micro-batches, for the mlp empty ones and single samples
    // too.
    make_data(folder / "train.h5", kind == "mlp" ? 52 : 45);
    make_data(folder / "valid.h5", 21);
    engine::RunConfig config = config_in(folder.path(), kind);
    config.optimizer.kind = optimizer;
    config.optimizer.momentum = 0.9;
    if (optimizer != OptimizerKind::adamw) config.optimizer.average = 0.5;
    QuietObserver one, other;
    const auto outcome = train(config, 1, 1, one);
    REQUIRE(outcome.step == 11);
    REQUIRE(one.losses.size() == 11);
    const std::string expected = model_of(config);
    for (const auto& [ranks, workers, ranks_per_host] : std::vector<std::array<int, 3>>{
             {1, 3, 1}, {2, 1, 1}, {3, 2, 2}, {5, 1, 2}, {6, 1, 3}, {4, 2, 4}}) {
      CAPTURE(kind, static_cast<int>(optimizer), ranks, workers, ranks_per_host);
      config.run.dir = folder / ("run " + std::to_string(ranks) + " " + std::to_string(workers));
      train(config, ranks, workers, other, -1, ranks_per_host);
      REQUIRE(other.losses == one.losses);
      REQUIRE(model_of(config) == expected);
      REQUIRE(other.evaluations.size() == one.evaluations.size());
      for (std::size_t e = 0; e < one.evaluations.size(); ++e) {
        REQUIRE(other.evaluations[e].samples == 21);
        REQUIRE(other.evaluations[e].values == one.evaluations[e].values);
      }
    }
    // Stopped twice, on other numbers of ranks each time.
    config.run.dir = folder / "interrupted";
    REQUIRE(train(config, 4, 1, other, 3).stopped == engine::StopReason::usr1);
    REQUIRE(train(config, 2, 2, other, 8).step == 8);
    REQUIRE(train(config, 3, 1, other).stopped == engine::StopReason::none);
    REQUIRE(model_of(config) == expected);
    // Done already: the same answer again.
    REQUIRE(train(config, 1, 1, other).step == 11);
    REQUIRE(model_of(config) == expected);
  }
}

TEST_CASE("a changed identity is refused with both values, a fork begins anew") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  QuietObserver observer;
  train(config, 1, 1, observer, 4);
  config.identity["seed"] = "6";
  const std::string error =
      tests::error_of(io::ErrorKind::config, [&] { train(config, 2, 1, observer); });
  REQUIRE(tests::contains(error, "seed: was 5, is 6"));
  // A fork of the same optimizer takes its states, another one begins with zeros.
  const engine::Place place{.workers = 1, .fork_from = config.run.dir};
  for (const auto kind : {engine::OptimizerKind::adamw, engine::OptimizerKind::sgd}) {
    config.run.dir = folder / ("fork " + std::to_string(static_cast<int>(kind)));
    config.optimizer.kind = kind;
    config.optimizer.momentum = 0.9;
    QuietObserver fresh;
    REQUIRE(train(config, 2, place, fresh).step == 11);
    REQUIRE(fresh.losses.size() == 11);
  }
  // Other data under the same name is another run too.
  config = config_in(folder.path(), "mlp");
  make_data(folder / "train.h5", 49);
  REQUIRE(tests::contains(
      tests::error_of(io::ErrorKind::config, [&] { train(config, 1, 1, observer); }),
      "the training data"));
}

TEST_CASE("a bad sample stops all ranks with its place, or is left out on all") {
  Experiment experiment(48, "mlp", /*bad_row=*/true);
  auto& [folder, config] = experiment;
  QuietObserver one, three;
  const std::string error = tests::error_of(io::ErrorKind::data, [&] { train(config, 3, 1, one); });
  REQUIRE(tests::contains(error, "train.h5:/x row 7 holds nan"));
  REQUIRE(tests::contains(error, "rank"));
  config.data.batch.on_bad_sample = io::OnBadSample::skip;
  train(config, 1, 1, one);
  const std::string expected = model_of(config);
  config.run.dir = folder / "three";
  train(config, 3, 1, three);
  REQUIRE(three.losses == one.losses);
  REQUIRE(model_of(config) == expected);
}

TEST_CASE("a step that is not finite stops with its samples, or is skipped by all") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  config.train.clip_norm.reset();
  config.optimizer = {.kind = engine::OptimizerKind::sgd, .lr = 1e30};
  QuietObserver observer;
  const std::string error =
      tests::error_of(io::ErrorKind::numeric, [&] { train(config, 2, 1, observer); });
  CAPTURE(error);
  REQUIRE(tests::contains(error, "in micro-batch"));
  REQUIRE(tests::contains(error, "train.h5:/x row"));
  config.train.on_nonfinite = engine::OnNonFinite::skip;
  train(config, 2, 1, observer);
  REQUIRE(observer.skipped > 5);
}

TEST_CASE("a run ends early when patience is used up") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  config.train.evaluate_every = {1, engine::Span::Unit::steps};
  config.objective.patience = 2;
  config.objective.best = "valid.accuracy";
  config.optimizer.lr = 1e-12;
  QuietObserver observer;
  const auto outcome = train(config, 2, 1, observer);
  REQUIRE(outcome.early);
  REQUIRE(outcome.step == 3);
}

TEST_CASE("what cannot be trained is refused before the first step") {
  Experiment experiment(49, "convnet");
  auto& [folder, config] = experiment;
  QuietObserver observer;
  const auto refuse = [&](io::ErrorKind kind) {
    return tests::error_of(kind, [&] { train(config, 2, 1, observer); });
  };
  // 49 samples in micro-batches of 4 leave one of a single sample.
  REQUIRE(tests::contains(refuse(io::ErrorKind::config), "micro-batch of one sample"));
  config.data.drop_last = true;
  config.model.options["hiden"] = "3";
  REQUIRE(tests::contains(refuse(io::ErrorKind::config), "model.options.hiden"));
  config.model.options.erase("hiden");
  config.train.global_batch = 400;
  REQUIRE(tests::contains(refuse(io::ErrorKind::config), "0 steps"));
  REQUIRE_FALSE(std::filesystem::exists(config.run.dir));
  config.train.global_batch = 24;
  config.model.weights = (folder / "train.h5").string();
  REQUIRE(tests::contains(refuse(io::ErrorKind::checkpoint), "looks like an HDF5 file"));
}

TEST_CASE("gradients and parameters that travel in bfloat16 train as well") {
  Experiment experiment(48);
  auto& [folder, config] = experiment;
  QuietObserver wide, narrow, again;
  train(config, 1, 1, wide);
  config.train.wire = engine::Wire::bfloat16;
  config.run.dir = folder / "narrow";
  train(config, 4, 1, narrow);
  REQUIRE(narrow.losses.front() == wide.losses.front());
  for (std::size_t i = 1; i < wide.losses.size(); ++i) {
    CAPTURE(i, wide.losses[i], narrow.losses[i]);
    REQUIRE(narrow.losses[i] != wide.losses[i]);
    REQUIRE(std::abs(narrow.losses[i] - wide.losses[i]) < 0.02f * wide.losses[i]);
  }
  // Parts lie on one host each.
  config.train.wire_parts = 2;
  config.run.dir = folder / "refused";
  const std::string error =
      tests::error_of(io::ErrorKind::config, [&] { train(config, 3, 1, again, -1, 1); });
  CAPTURE(error);
  REQUIRE(tests::contains(error, "3 hosts, but there are at most 2"));
}
