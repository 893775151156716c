#include <fmt/format.h>

#include "engine/model_export.hpp"
#include "io/error.hpp"
#include "launch/config.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

// A run folder stands for the config that it began with.
fs::path config_of(const fs::path& given) {
  std::error_code ignored;
  return fs::is_directory(given, ignored) ? given / "config.resolved.toml" : given;
}

}  // namespace

int export_model(const ExportArguments& arguments) {
  const LoadedConfig config =
      load_config(config_of(arguments.config.config), arguments.config.settings);
  const fs::path own = config.run.run.dir / "model" / "model.safetensors";
  const fs::path weights = arguments.weights.empty() ? own : arguments.weights;
  std::error_code ignored;
  if (!fs::exists(weights, ignored)) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{} does not exist: train first, or name weights with --checkpoint",
                                weights.string()));
  }
  if (arguments.to == "safetensors") {
    engine::export_safetensors(weights, arguments.output);
  } else if (config.run.model.program.empty()) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("--to {} needs model.program: a model of the zoo has no program; "
                                "take --to safetensors and load it into the module in Python",
                                arguments.to));
  } else if (arguments.to == "pt2") {
    engine::export_program(config.run.model.program, weights, arguments.output);
  } else {
    engine::export_onnx_helper(config.run.model.program, weights, arguments.output);
  }
  fmt::print("exported: {}\n", arguments.output.string());
  return 0;
}

}  // namespace hadal::launch
