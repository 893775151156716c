#pragma once
// A checkpoint from disk. Each block is read once a host (of the optimizer's file once a job), by
// all threads of all ranks, and compared with its hash on the way; then its bytes go to whoever
// needs them.

#include <filesystem>

#include "engine/checkpoint_memory.hpp"
#include "engine/thread_team.hpp"
#include "io/checkpoint_store.hpp"

namespace hadal::engine {

// Collective. Fills the state from a checkpoint folder with this manifest. Throws, on every rank,
// a checkpoint or storage error that says what is damaged or does not fit; the state is not to be
// used then.
void load_checkpoint(Communicator& comm, CheckpointMemory& memory,
                     const io::StoredCheckpoint& checkpoint, ThreadTeam& team,
                     TrainingState& state);

// Collective. A new run's first state from another run's checkpoint: its weights and buffers and,
// where the optimizer keeps the same states, those and the number of updates; else the optimizer
// starts anew. Returns whether the optimizer's states were taken.
bool load_fork(Communicator& comm, CheckpointMemory& memory, const io::StoredCheckpoint& checkpoint,
               ThreadTeam& team, const Model& model, TrainingState& state);

}  // namespace hadal::engine
