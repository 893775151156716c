#pragma once
// The verbs and their options as CLI11 knows them: filled while it parses, run after.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

#include "launch/verbs.hpp"

namespace hadal::launch {

// What the command line asks for: filled by CLI11, run after parsing.
struct Commands {
  TrainArguments train;
  EvaluateArguments evaluate;
  PredictArguments predict;
  CheckArguments check;
  PlanArguments plan;
  ExportArguments exported;
  RenderArguments rendered;
  DoctorArguments doctor;
  SubmitArguments submitted;
  JobArguments job;
  std::uint32_t slurm_job = 0;
  BenchReduceArguments bench_reduce;
  StatsArguments stats;
  BenchReadArguments bench_read;
  BenchCheckpointArguments bench_checkpoint;
  ChaosArguments chaos;
  BenchStepArguments bench_step;
  io::PackOptions pack;
  InspectArguments inspected;
  bool single = false;
  std::string ranks = "1,2,4,8";
  std::string sizes = "1048576,26214400,104857600";
  std::function<int()> run;  // for verbs on one process
  std::function<int(engine::Communicator&)> run_on_ranks;
  double patience = 30;  // seconds with others at the end
};

// The options of verbs that take a run's config.
void add_config(CLI::App* verb, ConfigArguments& config, bool required = true);

// bench and its own verbs.
void add_bench(CLI::App& app, Commands& commands);
// render, submit, status, cancel, doctor.
void add_job_verbs(CLI::App& app, Commands& commands);

}  // namespace hadal::launch
