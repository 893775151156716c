// Whole optimizer steps of one or more configs in one process, one worker each: reads lines
// "NUMBER STEPS" from standard input (which config, how many steps) and answers each with the
// seconds they took. benchmarks/step.py drives it, in turn with PyTorch.

#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <vector>

#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "engine/session.hpp"
#include "engine/stopwatch.hpp"
#include "engine/trainer.hpp"
#include "io/error.hpp"
#include "kernels/flush_to_zero.hpp"
#include "launch/config.hpp"

namespace {

using namespace hadal;

class Contestant {
 public:
  Contestant(const char* path, engine::Communicator& comm)
      : config_(launch::load_config(path, {}).run),
        data_(engine::open_dataset(comm, config_.data, engine::Split::train)),
        session_(config_, {.workers = 1, .memory_bytes = 0, .fork_from = {}}, comm, data_,
                 engine::check_model(config_, data_), engine::Session::Purpose::train),
        plan_(engine::check_plan(config_, data_, session_.model(), 1)),
        trainer_(config_, plan_, comm, session_, data_) {}

  double seconds(int steps) {
    const engine::Stopwatch watch;
    for (int s = 0; s < steps; ++s) loss_ = trainer_.step({}).loss;
    return watch.seconds();
  }
  float loss() const { return loss_; }

 private:
  engine::RunConfig config_;
  io::DataIndex data_;
  engine::Session session_;
  engine::TrainingPlan plan_;
  engine::Trainer trainer_;
  float loss_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  kernels::set_flush_to_zero();
  try {
    const auto comm = engine::solo_communicator();
    std::vector<std::unique_ptr<Contestant>> contestants;
    for (int i = 1; i < argc; ++i) {
      contestants.push_back(std::make_unique<Contestant>(argv[i], *comm));
    }
    std::size_t number = 0;
    int steps = 0;
    while (std::cin >> number >> steps) {
      const double seconds = contestants.at(number)->seconds(steps);
      fmt::print("{} {}\n", seconds, contestants.at(number)->loss());
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "benchmark_step: {}\n", error.what());
    return 1;
  }
  return 0;
}
