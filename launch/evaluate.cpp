#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/run.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/environment.hpp"
#include "launch/split.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

int evaluate(const EvaluateArguments& arguments, engine::Communicator& comm) {
  LoadedConfig config;
  engine::Split split = engine::Split::test;
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings);
    split = chosen_split(config.run.data, arguments.split);
    pin_isa(config.run.run.isa);
  });
  engine::Place place;
  engine::run_collectively(comm, "looking at the host",
                           [&] { place = find_place(comm, config.run.run); });
  const engine::EvaluationResult result =
      engine::evaluate(config.run, place, comm, split, arguments.weights);
  if (comm.rank() != 0) return 0;
  if (arguments.json) {
    nlohmann::ordered_json document = {{"split", arguments.split}, {"samples", result.samples}};
    for (std::size_t i = 0; i < result.names.size(); ++i)
      document[result.names[i]] = result.values[i];
    for (const auto& [name, rows] : result.tables) document["tables"][name] = rows;
    fmt::print("{}\n", document.dump(1));
    return 0;
  }
  std::string line = fmt::format("evaluated: {} samples", result.samples);
  // The shortest text that reads back to the same bits.
  for (std::size_t i = 0; i < result.names.size(); ++i) {
    line += fmt::format(", {} {}", result.names[i], result.values[i]);
  }
  fmt::print("{}\n", line);
  return 0;
}

}  // namespace hadal::launch
