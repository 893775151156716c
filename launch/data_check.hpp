#pragma once
// The data of a config, looked at on this machine alone, before a job meets them.

#include <vector>

#include "engine/dataset.hpp"

namespace hadal::launch {

struct CheckedSplit {
  engine::Split split = engine::Split::train;
  io::DataIndex data;
};

enum class CheckDepth { headers, samples };

// Every split that the config has. Throws a data error with every fault of all of them, a config
// error where data and plan do not go together.
std::vector<CheckedSplit> check_data(const engine::RunConfig& run, CheckDepth depth);

}  // namespace hadal::launch
