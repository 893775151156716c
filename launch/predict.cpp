#include <fmt/format.h>

#include <cstdio>

#include "engine/comm/collectively.hpp"
#include "engine/prediction.hpp"
#include "engine/stopwatch.hpp"
#include "io/log.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/environment.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

// The samples to predict take the place of data.test.
void choose_data(const std::vector<std::string>& given, engine::DataOptions& data) {
  const std::string& first = given.front();
  if (given.size() == 1 && (first == "train" || first == "valid" || first == "test")) {
    const auto& chosen =
        first == "train" ? data.train : (first == "valid" ? data.valid : data.test);
    if (chosen.empty()) {
      throw io::Error(io::ErrorKind::config, fmt::format("data.{} is not set", first));
    }
    const std::string group = first == "train"
                                  ? data.train_group
                                  : (first == "valid" ? data.valid_group : data.test_group);
    data.test = chosen;
    data.test_group = group;
    return;
  }
  data.test.clear();
  data.test_group.clear();
  for (const std::string& path : given) {
    data.test.push_back(std::filesystem::absolute(path).lexically_normal().string());
  }
}

engine::PredictAs as_named(const std::string& name) {
  if (name == "probabilities") return engine::PredictAs::probabilities;
  return name == "classes" ? engine::PredictAs::classes : engine::PredictAs::outputs;
}

}  // namespace

int predict(const PredictArguments& arguments, engine::Communicator& comm) {
  LoadedConfig config;
  engine::Place place;
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings);
    choose_data(arguments.data, config.run.data);
    pin_isa(config.run.run.isa);
  });
  engine::run_collectively(comm, "looking at the host",
                           [&] { place = find_place(comm, config.run.run); });
  engine::Stopwatch since_line, since_start;
  const auto show = [&](std::int64_t done, std::int64_t all) {
    if (comm.rank() != 0 || since_line.seconds() < config.run.log_every_seconds) return;
    since_line.lap();
    io::log_info(fmt::format("predicted {} of {} samples, {:.0f} samples/s", done, all,
                             static_cast<double>(done) / since_start.seconds()));
  };
  const engine::Prediction result = engine::predict(
      config.run, place, comm,
      {.output = arguments.output, .weights = arguments.weights, .as = as_named(arguments.as)},
      show);
  if (comm.rank() != 0) return 0;
  const double fresh = static_cast<double>(result.samples - result.resumed);
  io::log_info(fmt::format(
      "{}{:.0f} samples/s",
      result.resumed > 0 ? fmt::format("{} samples were there already; ", result.resumed) : "",
      fresh / std::max(result.seconds, 1e-9)));
  fmt::print("predicted: {} samples, {}\n", result.samples, arguments.output.string());
  std::fflush(stdout);
  return 0;
}

}  // namespace hadal::launch
