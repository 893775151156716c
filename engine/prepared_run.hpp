#pragma once
// What a run begins with: its config and data, checked before anything is computed or written.

#include <memory>

#include "engine/model.hpp"
#include "engine/plan.hpp"
#include "engine/run_config.hpp"
#include "engine/shared_scan.hpp"
#include "engine/staging.hpp"
#include "io/data_index.hpp"

namespace hadal::engine {

struct CheckedRun {
  std::unique_ptr<Model> model;
  TrainingPlan plan;
};

// Collective. The model for these training data and what training it will be like. Throws what
// check_model() and check_plan() throw.
CheckedRun check_run(const RunConfig& config, Communicator& comm, const io::DataIndex& data);

struct PreparedRun {
  RunConfig config;
  io::DataIndex train_data;
  io::DataIndex valid_data;  // empty where there is none
  bool validates = false;
  CheckedRun checked;
  StagedCopies copies;
};

// Collective. Scans, checks and stages. Throws Stopped.
PreparedRun prepare_run(const RunConfig& given, Communicator& comm, KnownScans& known);

}  // namespace hadal::engine
