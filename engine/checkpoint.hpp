#pragma once
// The training state to disk and back. A checkpoint does not depend on the number of ranks: the
// files are the arena in its own order, and each rank reads the slices it owns now.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "engine/comm/communicator.hpp"
#include "engine/training_state.hpp"
#include "io/checkpoint_store.hpp"

namespace hadal::engine {

// Of one checkpoint, on all ranks the same.
std::int64_t checkpoint_bytes(TrainingState& state);

// Collective. Rank 0 writes: parameters from its own copy, optimizer slices as their owners send
// them, one bucket at a time. `store` is used on rank 0 only. `run` goes into the manifest. Returns
// the folder (on rank 0).
std::filesystem::path save_checkpoint(Communicator& comm, io::CheckpointStore* store,
                                      const Model& model, TrainingState& state, nlohmann::json run);

// Collective. Fills the state from a checked checkpoint folder; every rank reads for itself. Throws
// a checkpoint error on every rank where any rank cannot.
void load_checkpoint(Communicator& comm, const std::filesystem::path& folder,
                     const nlohmann::json& run, const Model& model, TrainingState& state);

// Collective. A new run's first state from another run's checkpoint: its weights and buffers and,
// where the optimizer keeps the same states, those and the number of updates; else the optimizer
// starts anew. Returns whether the optimizer's states were taken.
bool load_fork(Communicator& comm, const std::filesystem::path& folder, const nlohmann::json& run,
               const Model& model, TrainingState& state);

}  // namespace hadal::engine
