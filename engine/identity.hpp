#pragma once
// What makes two starts the same run: the config's identity keys, the data's content, the
// arithmetic of the processor. Nothing is bound before the first committed step; afterwards a
// change is refused.

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "engine/plan.hpp"
#include "engine/session.hpp"
#include "io/checkpoint_store.hpp"

namespace hadal::engine {

// The record that goes into every checkpoint's manifest.
nlohmann::json run_identity(const RunConfig& config, const io::DataIndex& train_data,
                            std::uint64_t fingerprint);

// Collective. Warns, or throws a launch error where run.on_processor_change says stop, if two ranks
// compute other bits: their hosts differ in processor, caches or libraries.
void compare_hosts(const RunConfig& config, Communicator& comm, std::uint64_t fingerprint);

// Collective. Opens the run's store (rank 0) and loads the newest valid checkpoint, or the one that
// place.fork_from gives where the run is new. Throws a config error that lists every identity key
// that differs with both values; a checkpoint error where none can be used. Returns the folder, or
// "".
std::filesystem::path resume(const RunConfig& config, const Place& place, Communicator& comm,
                             Session& session, const nlohmann::json& identity,
                             std::optional<io::CheckpointStore>& store);

// The plan of a run on `ranks` ranks. Throws a config error for everything that a run would refuse,
// from the data's headers alone: a batch that does not divide, a model that does not fit the
// samples, a micro-batch of one sample for a model with batch statistics.
TrainingPlan check_plan(const RunConfig& config, const io::DataIndex& train_data, int ranks);

// The model of the run. Throws a config error where it or the objective cannot be built for the
// samples.
std::unique_ptr<Model> check_model(const RunConfig& config, const io::DataIndex& data);

}  // namespace hadal::engine
