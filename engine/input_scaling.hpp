#pragma once
// Means and deviations that a config leaves to the training data: measured once, kept in the run
// folder, the same for training, evaluation and prediction.

#include "engine/comm/communicator.hpp"
#include "engine/run_config.hpp"

namespace hadal::engine {

// Collective. Sets them in the config and in the indices: to what stands in the run
// folder's statistics.json, where it was measured on these data, else to what measuring finds,
// which is then written there. Throws a data error for a channel that never changes.
void settle_scaling(Communicator& comm, RunConfig& config, io::DataIndex& training,
                    io::DataIndex& validation);

// Collective. The data's options with what stands in that file. Throws a checkpoint error where it
// is missing.
DataOptions with_known_scaling(Communicator& comm, const RunConfig& config);

}  // namespace hadal::engine
