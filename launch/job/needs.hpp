#pragma once
// What a run will ask of the nodes that a job gives it, found out before the job waits for them.

#include "launch/config.hpp"
#include "launch/job/description.hpp"

namespace hadal::launch {

// Looks at the data's headers and builds the model. Throws data, model and config errors.
JobNeeds find_needs(const LoadedConfig& config);

}  // namespace hadal::launch
