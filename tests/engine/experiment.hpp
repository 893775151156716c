#pragma once
// Whole runs on small data, with the ranks as threads of this process.

#include <cmath>

#include "engine/run.hpp"
#include "io/atomic_file.hpp"
#include "io/hdf5_writer.hpp"
#include "tests/support/catch.hpp"

namespace hadal::tests {

class QuietObserver : public engine::RunObserver {
 public:
  explicit QuietObserver(std::int64_t stop_at = -1) : stop_at_(stop_at) {}
  void on_phase(const char*) override {}
  void on_start(const engine::TrainingPlan&, std::int64_t first) override { step = first; }
  void on_step(const engine::StepReport& report) override {
    step = report.step;
    losses.push_back(report.loss);
    skipped += report.skipped ? 1 : 0;
  }
  void on_failed_checkpoint(std::int64_t, const std::string&) override { ++failed_saves; }
  void on_evaluation(const engine::EvaluationResult& result, std::int64_t, bool, double) override {
    evaluations.push_back(result);
  }
  void on_checkpoint(const std::filesystem::path&, std::int64_t, double) override {}
  engine::Wishes wishes() override {
    return {.stop = step + 1 == stop_at_ ? engine::StopReason::usr1 : engine::StopReason::none};
  }
  std::int64_t step = 0;
  int skipped = 0;
  int failed_saves = 0;
  std::vector<float> losses;
  std::vector<engine::EvaluationResult> evaluations;

 private:
  std::int64_t stop_at_;
};

inline void make_data(const std::filesystem::path& path, std::int64_t rows, bool bad_row = false) {
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

inline engine::RunConfig config_in(const std::filesystem::path& folder, const std::string& kind) {
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
inline engine::TrainOutcome train(const engine::RunConfig& config, int ranks, engine::Place place,
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

inline engine::TrainOutcome train(const engine::RunConfig& config, int ranks, int workers,
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
  TemporaryFolder folder;
  engine::RunConfig config;
};

inline std::string model_of(const engine::RunConfig& config) {
  return io::read_file(config.run.dir / "model" / "model.safetensors");
}

}  // namespace hadal::tests
