#pragma once
// What more than one key of the config decides together: the model and its objective, the targets'
// types, lengths and batches.

#include <filesystem>
#include <string>
#include <vector>

#include "launch/config.hpp"

namespace hadal::launch {

// Settles what follows from several keys, and returns every fault, one line each. `path` is the
// config file, whose stem names the run where nothing else does. Reads the header of
// model.program.
std::vector<std::string> check_together(LoadedConfig& config, const std::filesystem::path& path);

}  // namespace hadal::launch
