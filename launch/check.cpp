#include <fmt/format.h>

#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "launch/config.hpp"
#include "launch/schema.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

int check(const CheckArguments& arguments) {
  if (arguments.schema) {
    fmt::print("{}\n", json_schema().dump(2));
    return 0;
  }
  const LoadedConfig config = load_config(arguments.config.config, arguments.config.settings);
  for (const ResolvedKey& key : config.keys) {
    fmt::print("{:<9} {:<32} {:<28} {}\n", key.identity ? "identity" : "free", key.key,
               key.value.dump(), key.source);
  }
  if (arguments.data) {
    const auto comm = engine::solo_communicator();
    const io::DataIndex train_data =
        engine::open_dataset(*comm, config.run.data, engine::Split::train);
    for (const engine::Split split : {engine::Split::valid, engine::Split::test}) {
      if (engine::has_split(config.run.data, split))
        engine::open_dataset(*comm, config.run.data, split);
    }
    engine::check_plan(config.run, train_data, 1);
    fmt::print("{} training samples\n", train_data.samples);
  }
  fmt::print("ok\n");
  return 0;
}

}  // namespace hadal::launch
