#pragma once
// One function a verb. Each prints its result on standard output and returns the exit code; errors
// are thrown.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "io/pack.hpp"
#include "launch/job/batch_system.hpp"

namespace hadal::launch {

struct ConfigArguments {
  std::filesystem::path config;
  std::vector<std::string> settings;  // key=value
};

struct TrainArguments {
  ConfigArguments config;
  std::filesystem::path fork;  // new run folder, or empty
  std::string command;         // as typed, for the manifest
};

struct EvaluateArguments {
  ConfigArguments config;
  std::string split = "test";
  std::filesystem::path weights;
  bool json = false;
};

struct PredictArguments {
  ConfigArguments config;
  std::vector<std::string> data;  // a split's name, or files and patterns
  std::filesystem::path output;
  std::filesystem::path weights;
  std::string as = "outputs";
};

struct ExportArguments {
  ConfigArguments config;  // or a run folder
  std::string to = "safetensors";
  std::filesystem::path output;
  std::filesystem::path weights;
};

struct PlanArguments {
  ConfigArguments config;
  std::vector<int> ranks{1};
  std::int64_t order_steps = 0;
  bool json = false;
};

struct CheckArguments {
  ConfigArguments config;
  bool data = false;
  bool deep = false;
  bool schema = false;
};

struct RenderArguments {
  ConfigArguments config;
  std::string form;
  std::filesystem::path output;  // empty: standard output
  bool self_contained = false;
  bool check = true;
  int api = 38;  // of slurmrestd
};

struct SubmitArguments {
  ConfigArguments config;
  BatchSystemAddress address{.system = "", .api = 0};  // empty, 0: the usual one
  int times = 1;
  bool self_contained = false;
  bool check = true;
  bool dry_run = false;
};

// Of status and cancel.
struct JobArguments {
  ConfigArguments config;                              // or a run folder
  BatchSystemAddress address{.system = "", .api = 0};  // what is empty: as it was submitted
  std::string id;
  bool json = false;
};

struct DoctorArguments {
  ConfigArguments config;  // may be empty
  bool json = false;
};

struct InspectArguments {
  std::filesystem::path path;
  std::filesystem::path samples;  // a PNG to draw; empty: none
  bool json = false;
};

struct StatsArguments {
  ConfigArguments config;
  std::string split = "train";
  bool json = false;
};

struct BenchReduceArguments {
  std::vector<std::int64_t> sizes;  // bytes
  std::string optimizer = "none";   // or sgd, adamw: what follows the sum
  int workers = 1;
  std::string device = "cpu";
  bool share_gpus = false;
  int rounds = 20;
  bool json = false;
};

struct BenchCheckpointArguments {
  ConfigArguments config;
  int rounds = 5;
  int steps = 5;
  bool json = false;
};

struct BenchReadArguments {
  ConfigArguments config;
  std::int64_t steps = 200;
  int rounds = 5;
  double pause = 0;  // milliseconds after each step
  bool cold = false;
  bool library = false;
  bool json = false;
};

struct BenchStepArguments {
  std::string model = "resnet18";
  std::string optimizer = "sgd";
  std::string precision = "float32";
  std::string order = "canonical";
  std::string overlap = "auto";
  std::string wire = "float32";
  std::string device = "auto";
  bool tensor_float32 = false;
  bool any_algorithm = false;  // also those whose bits differ from run to run
  bool graphs = true;
  std::int64_t micro_batch = 0;  // 0: the model's usual one
  int workers = 0;               // 0: all cores of the rank
  int steps = 30;
  int warm_up = 5;
  bool json = false;
};

struct ChaosArguments {
  ConfigArguments config;
  double minutes = 10;
  std::int64_t faults = 1'000'000;
  int ranks = 4;  // at most
  std::uint64_t seed = 0;
  std::vector<std::string> launcher;  // words before the number of ranks; empty: mpirun's
  std::filesystem::path folder;       // empty: the run's with "-chaos" behind it
  bool json = false;
};

// Collective over `comm`.
// Lowers `patience`, with others at the end, to what the config says of it.
int train(const TrainArguments& arguments, engine::Communicator& comm, double& patience);
int evaluate(const EvaluateArguments& arguments, engine::Communicator& comm);
int stats(const StatsArguments& arguments, engine::Communicator& comm);
// Returns a launch error's code where something does not fit.
int doctor(const DoctorArguments& arguments, engine::Communicator& comm);
int predict(const PredictArguments& arguments, engine::Communicator& comm);
std::vector<std::string> bench_models();
int bench_step(const BenchStepArguments& arguments, engine::Communicator& comm);
int bench_checkpoint(const BenchCheckpointArguments& arguments, engine::Communicator& comm);
int bench_read(const BenchReadArguments& arguments, engine::Communicator& comm);
// Returns the code of a bug where a sum is wrong.
int bench_reduce(const BenchReduceArguments& arguments, engine::Communicator& comm);

// Collective.
int pack(const io::PackOptions& options, engine::Communicator& comm);
int inspect(const InspectArguments& arguments);
int check(const CheckArguments& arguments);
int plan(const PlanArguments& arguments);
// Starts the run again and again, with another number of ranks and another fault each time, until
// the time or the faults are used up, and compares the end with a run that nobody disturbed. Acts
// on this host only. Throws a bug where it finds one.
int chaos(const ChaosArguments& arguments);
std::vector<std::string> form_names();
int render(const RenderArguments& arguments);
int submit(const SubmitArguments& arguments);
int status(const JobArguments& arguments);
int cancel(const JobArguments& arguments);
int export_model(const ExportArguments& arguments);

}  // namespace hadal::launch
