#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "io/deep_check.hpp"
#include "io/error.hpp"
#include "launch/config.hpp"
#include "launch/schema.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

// Every fault of every split, not only the first one's.
void check_data(const engine::RunConfig& run, bool deep) {
  const auto comm = engine::solo_communicator();
  std::vector<std::string> faults;
  for (const engine::Split split :
       {engine::Split::train, engine::Split::valid, engine::Split::test}) {
    if (!engine::has_split(run.data, split)) continue;
    try {
      const io::DataIndex data = engine::open_dataset(*comm, run.data, split);
      if (split == engine::Split::train) engine::check_plan(run, data, 1);
      if (deep) {
        const std::vector<std::string> found = io::deep_check(data, run.data.batch);
        faults.insert(faults.end(), found.begin(), found.end());
      }
      fmt::print("{} {} samples\n", data.samples, engine::name_of(split));
    } catch (const io::Error& error) {
      if (error.kind() != io::ErrorKind::data) throw;
      faults.push_back(error.what());
    }
  }
  if (faults.empty()) return;
  throw io::Error(io::ErrorKind::data, fmt::format("{}", fmt::join(faults, "\n  ")));
}

}  // namespace

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
  if (arguments.data) check_data(config.run, arguments.deep);
  fmt::print("ok\n");
  return 0;
}

}  // namespace hadal::launch
