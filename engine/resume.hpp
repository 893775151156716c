#pragma once
// The state that a run starts from.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "engine/checkpoint_memory.hpp"
#include "engine/session.hpp"

namespace hadal::engine {

// Collective. Loads the newest checkpoint of the run that is whole, or of the run that
// place.fork_from names where this one is new; damaged ones are named and passed over. Throws a
// config error where the run has another identity; a checkpoint error where there are checkpoints
// but none can be used. Returns the folder, or "" where the run begins.
std::filesystem::path resume(const RunConfig& config, const Place& place, Communicator& comm,
                             Session& session, CheckpointMemory& memory,
                             const nlohmann::json& identity);

}  // namespace hadal::engine
