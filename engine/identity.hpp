#pragma once
// What makes two starts the same run: the config's identity keys, the data's content, the
// arithmetic of the processor. Nothing is bound before the first committed step; afterwards a
// change is refused.

#include <nlohmann/json.hpp>
#include <optional>

#include "engine/session.hpp"
#include "io/checkpoint_store.hpp"

namespace hadal::engine {

// The record that goes into every checkpoint's manifest.
nlohmann::json run_identity(const RunConfig& config, const io::DataIndex& train_data,
                            std::uint64_t fingerprint);

// Collective. Opens the run's store (rank 0) and loads the newest valid checkpoint, or the one that
// place.fork_from gives where the run is new. Throws a config error that lists every identity key
// that differs with both values; a checkpoint error where none can be used. Returns the folder, or
// "".
std::filesystem::path resume(const RunConfig& config, const Place& place, Communicator& comm,
                             Session& session, const nlohmann::json& identity,
                             std::optional<io::CheckpointStore>& store);

// Throws a config error where some step would give a model with batch statistics a micro-batch of
// one sample.
void check_smallest_batch(const RunConfig& config, const io::DataIndex& data, const Model& model);

}  // namespace hadal::engine
