#pragma once
// The folder that a run's checkpoints go to: what it is, who sees it, how fast it is.

#include <cstdint>
#include <filesystem>

#include "engine/comm/communicator.hpp"
#include "launch/doctor/finding.hpp"

namespace hadal::launch {

// Collective. `folder` is made where it is not there; what is written into it is taken away again.
// `wanted_bytes` of checkpoints are to fit.
Findings examine_storage(engine::Communicator& comm, const std::filesystem::path& folder,
                         std::int64_t wanted_bytes);

}  // namespace hadal::launch
