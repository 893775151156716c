#include "engine/run.hpp"

#include <array>
#include <cmath>

#include "io/atomic_file.hpp"
#include "io/hdf5_writer.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

class QuietObserver : public engine::RunObserver {
 public:
  explicit QuietObserver(std::int64_t stop_at = -1) : stop_at_(stop_at) {}
  void on_start(const engine::TrainingPlan&, std::int64_t first) override { step = first; }
  void on_step(const engine::StepReport& report) override {
    step = report.step;
    losses.push_back(report.loss);
    skipped += report.skipped ? 1 : 0;
  }
  void on_evaluation(const engine::EvaluationResult& result, std::int64_t, bool) override {
    evaluations.push_back(result);
  }
  void on_checkpoint(const std::filesystem::path&, std::int64_t, double) override {}
  engine::Wishes wishes() override {
    return {.stop = step + 1 == stop_at_ ? engine::StopReason::usr1 : engine::StopReason::none};
  }
  std::int64_t step = 0;
  int skipped = 0;
  std::vector<float> losses;
  std::vector<engine::EvaluationResult> evaluations;

 private:
  std::int64_t stop_at_;
};

void make_data(const std::filesystem::path& path, std::int64_t rows, bool bad_row = false) {
  io::Hdf5ShardWriter writer(path, {{"/x", io::DType::f32, {1, 6, 6}}, {"/y", io::DType::i64, {}}},
                             rows);
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<float> x(36);
    for (std::size_t i = 0; i < 36; ++i)
      x[i] = std::sin(static_cast<float>(r * 36 + static_cast<std::int64_t>(i)));
    if (bad_row && r == 7) x[3] = NAN;
    const std::int64_t y = r % 3;
    writer.append({std::as_bytes(std::span(x)), std::as_bytes(std::span(&y, 1))});
  }
  writer.close();
}

engine::RunConfig config_in(const std::filesystem::path& folder, const std::string& kind) {
  engine::RunConfig config;
  config.run.dir = folder / "run";
  config.run.seed = 5;
  config.data.train = {(folder / "train.h5").string()};
  config.data.valid = {(folder / "valid.h5").string()};
  config.data.fields = {{.name = "x",
                         .role = io::FieldRole::input,
                         .path = "/x",
                         .files = {},
                         .dtype = io::DType::f32},
                        {.name = "y",
                         .role = io::FieldRole::target,
                         .path = "/y",
                         .files = {},
                         .dtype = io::DType::i64,
                         .classes = 3}};
  config.data.drop_last = false;
  config.model.kind = kind;
  config.model.options = {{"classes", "3"}, {"dropout", "0.3"}};
  config.objective.terms[0].metrics = {"accuracy"};
  config.train = {.length = {11, engine::Span::Unit::steps},
                  .global_batch = 24,
                  .micro_batch = 4,
                  .clip_norm = 1.0};
  config.train.evaluate_every = {5, engine::Span::Unit::steps};
  config.optimizer = {.kind = engine::OptimizerKind::adamw, .lr = 1e-2, .weight_decay = 0.1};
  config.schedule.kind = engine::ScheduleKind::cosine;
  config.identity = {{"seed", "5"}};
  return config;
}

// Hosts hold two ranks each, so that both memory and messages carry gradients.
engine::TrainOutcome train(const engine::RunConfig& config, int ranks, engine::Place place,
                           QuietObserver& shown, std::int64_t stop_at = -1,
                           int ranks_per_host = 2) {
  engine::TrainOutcome outcome;
  engine::run_ranks_as_threads(
      ranks,
      [&](engine::Communicator& comm) {
        QuietObserver own(stop_at);
        const auto mine = engine::train(config, place, comm, own);
        if (comm.rank() != 0) return;
        outcome = mine;
        shown = own;
      },
      ranks_per_host);
  return outcome;
}

engine::TrainOutcome train(const engine::RunConfig& config, int ranks, int workers,
                           QuietObserver& shown, std::int64_t stop_at = -1,
                           int ranks_per_host = 2) {
  return train(config, ranks, engine::Place{.workers = workers}, shown, stop_at, ranks_per_host);
}

// A folder with training and validation data, and the config of a run in it.
struct Experiment {
  explicit Experiment(std::int64_t rows, const std::string& kind = "mlp", bool bad_row = false)
      : config(config_in(folder.path(), kind)) {
    make_data(folder / "train.h5", rows, bad_row);
    make_data(folder / "valid.h5", 6);
  }
  tests::TemporaryFolder folder;
  engine::RunConfig config;
};

std::string model_of(const engine::RunConfig& config) {
  return io::read_file(config.run.dir / "model" / "model.safetensors");
}

}  // namespace

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
