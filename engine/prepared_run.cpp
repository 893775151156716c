#include "engine/prepared_run.hpp"

#include <fmt/format.h>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "engine/input_scaling.hpp"
#include "engine/labels.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

// Where data.stage says, the files are read from each node's own copies.
[[nodiscard]] StagedCopies stage_data(Communicator& comm, const DataOptions& options,
                                      io::DataIndex& training, io::DataIndex* validation,
                                      const AskStop& ask_stop) {
  if (options.stage.empty()) return {};
  std::vector<io::DataIndex*> indices{&training};
  if (validation != nullptr) indices.push_back(validation);
  StagingReport report = stage(comm, options.stage, indices, ask_stop);
  if (comm.rank() != 0) return std::move(report.copies);
  io::log_info(fmt::format("staged {:.1f} MiB to {} hosts in {:.1f} s, below {}",
                           static_cast<double>(report.bytes) / (1 << 20), report.hosts,
                           report.seconds, options.stage));
  return std::move(report.copies);
}

}  // namespace

CheckedRun check_run(const RunConfig& config, Communicator& comm, const io::DataIndex& data) {
  CheckedRun run;
  run_collectively(comm, "checking the config", [&] {
    run.model = check_model(config, data);
    run.plan = check_plan(config, data, *run.model, comm.size());
  });
  return run;
}

PreparedRun prepare_run(const RunConfig& given, Communicator& comm, KnownScans& known) {
  PreparedRun run{.config = given};
  RunConfig& config = run.config;
  run.train_data = open_dataset(comm, config.data, Split::train, &known);
  run.validates = has_split(config.data, Split::valid);
  if (run.validates) run.valid_data = open_dataset(comm, config.data, Split::valid, &known);
  run.checked = check_run(config, comm, run.train_data);
  run.copies = stage_data(comm, config.data, run.train_data,
                          run.validates ? &run.valid_data : nullptr, known.ask_stop);
  settle_scaling(comm, config, run.train_data, run.valid_data);
  run_collectively(comm, "looking at the order", [&] {
    if (comm.rank() != 0) return;
    const std::string warning = poor_mix(config, run.train_data);
    if (!warning.empty()) io::log_warning(warning);
  });
  for (GroupOptions& group : config.optimizer.groups) {
    if (!group.until) continue;
    const auto steps =
        static_cast<double>(in_steps(*group.until, run.checked.plan.steps_per_epoch));
    group.until = Span{steps, Span::Unit::steps};
  }
  return run;
}

}  // namespace hadal::engine
