#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/statistics.hpp"
#include "launch/config.hpp"
#include "launch/split.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

int stats(const StatsArguments& arguments, engine::Communicator& comm) {
  LoadedConfig config;
  engine::Split split = engine::Split::train;
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings);
    split = chosen_split(config.run.data, arguments.split);
  });
  const io::DataIndex data = engine::open_dataset(comm, config.run.data, split);
  const std::vector<engine::InputStatistics> found =
      engine::measure_inputs(comm, data, config.run.data.batch);
  if (comm.rank() != 0) return 0;
  nlohmann::ordered_json document = {{"split", arguments.split}, {"samples", data.samples}};
  for (const engine::InputStatistics& input : found) {
    document["inputs"][input.name] = {{"values", input.values},
                                      {"mean", input.mean},
                                      {"std", input.std},
                                      {"least", input.least},
                                      {"most", input.most}};
    if (arguments.json) continue;
    // As a config wants them.
    fmt::print("# {}: {} samples, {} channels of {} values, from {} to {}\n", input.name,
               data.samples, input.mean.size(), input.values,
               *std::min_element(input.least.begin(), input.least.end()),
               *std::max_element(input.most.begin(), input.most.end()));
    fmt::print("[data.inputs.{}]\nmean = [{}]\nstd = [{}]\n", input.name,
               fmt::join(input.mean, ", "), fmt::join(input.std, ", "));
  }
  if (arguments.json) fmt::print("{}\n", document.dump(1));
  return 0;
}

}  // namespace hadal::launch
