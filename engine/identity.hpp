#pragma once
// What makes two starts the same run: the config's identity keys, the data's content, the
// arithmetic of the processor. Nothing is bound before the first committed step; afterwards a
// change is refused.

#include <nlohmann/json_fwd.hpp>

#include "engine/plan.hpp"
#include "engine/session.hpp"

namespace hadal::engine {

// The record that goes into every checkpoint's manifest.
nlohmann::json run_identity(const RunConfig& config, const io::DataIndex& train_data,
                            std::uint64_t fingerprint);

// Collective. Warns, or throws a launch error where run.on_processor_change says stop, if two ranks
// compute other bits: their hosts differ in processor, caches or libraries.
void compare_hosts(const RunConfig& config, Communicator& comm, std::uint64_t fingerprint);

// Throws a config error that lists every identity key in which a checkpoint's record differs from
// this run's, with both values. Another processor's bits are a warning, or a launch error where
// run.on_processor_change says stop.
void check_identity(const RunConfig& config, const nlohmann::json& before,
                    const nlohmann::json& now);

// The model of the run. Throws a config error where it or the objective cannot be built for the
// samples.
std::unique_ptr<Model> check_model(const RunConfig& config, const io::DataIndex& data);
// The same, to be applied only. Throws a checkpoint error for a program that was exported in
// training mode.
std::unique_ptr<Model> check_applied(const RunConfig& config, const io::DataIndex& data);

// The plan of a run on `ranks` ranks, of the model of check_model(). Throws a config error for
// everything else that a run would refuse, from the data's headers alone: a batch that does not
// divide, a micro-batch of one sample for a model with batch statistics.
TrainingPlan check_plan(const RunConfig& config, const io::DataIndex& train_data,
                        const Model& model, int ranks);

}  // namespace hadal::engine
