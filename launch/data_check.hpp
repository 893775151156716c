#pragma once
// The data of a config, looked at on this machine alone, before a job meets them.

#include <memory>
#include <vector>

#include "engine/dataset.hpp"
#include "engine/model.hpp"

namespace hadal::launch {

struct CheckedSplit {
  engine::Split split = engine::Split::train;
  io::DataIndex data;
};

enum class CheckDepth { headers, samples };

struct CheckedData {
  std::vector<CheckedSplit> splits;
  std::unique_ptr<engine::Model> model;
};

// Every split that the config has, and the model that trains on them. Throws a data error with
// every fault of all of them, a config error where data and plan do not go together.
CheckedData check_data(const engine::RunConfig& run, CheckDepth depth);

}  // namespace hadal::launch
