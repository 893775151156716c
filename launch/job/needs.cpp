#include "launch/job/needs.hpp"

#include "engine/run.hpp"
#include "launch/data_check.hpp"

namespace hadal::launch {

JobNeeds find_needs(const LoadedConfig& config) {
  const engine::RunConfig& run = config.run;
  const JobOptions& job = config.job;
  const CheckedData checked = check_data(run, CheckDepth::headers);
  const engine::ModelSize size = engine::model_size(run, *checked.model);
  // Parameters and a copy for checkpoints once a node; data and gradients a rank.
  const std::int64_t copy =
      run.checkpoint.asynchronous ? size.checkpoint_bytes / job.nodes : std::int64_t{0};
  const auto parameters =
      (size.parameters + size.frozen_parameters) * static_cast<std::int64_t>(sizeof(float));
  return {.micro_batches = run.train.global_batch / run.train.micro_batch,
          .memory_per_node = parameters + copy +
                             job.ranks_per_node * (size.worker_bytes + run.data.batch.memory_bytes),
          .checkpoint_bytes = size.checkpoint_bytes,
          .checkpoints = run.checkpoint.keep + 1};
}

}  // namespace hadal::launch
