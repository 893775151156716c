#include <fmt/format.h>

#include "launch/config.hpp"
#include "launch/data_check.hpp"
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
    const CheckDepth depth = arguments.deep ? CheckDepth::samples : CheckDepth::headers;
    const CheckedData checked = check_data(config.run, depth);
    for (const CheckedSplit& split : checked.splits) {
      fmt::print("{} {} samples\n", split.data.samples, engine::name_of(split.split));
    }
  }
  fmt::print("ok\n");
  return 0;
}

}  // namespace hadal::launch
