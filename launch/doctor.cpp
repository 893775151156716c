#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "engine/run.hpp"
#include "io/chunk_filters.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/doctor/gpu_report.hpp"
#include "launch/doctor/network.hpp"
#include "launch/doctor/place.hpp"
#include "launch/doctor/storage.hpp"
#include "launch/environment.hpp"
#include "launch/host_list.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

// For GPUs to find each other: a doctor does not wait for as long as a run.
constexpr double kConnectSeconds = 60;

// What started the ranks, by the variables that it leaves.
std::string launcher_name() {
  if (environment_variable("OMPI_COMM_WORLD_SIZE") &&
      !environment_variable("SLURM_STEP_NUM_TASKS")) {
    return "mpirun";
  }
  if (environment_variable("SLURM_PROCID")) {
    return environment_variable("PMIX_RANK") ? "srun with PMIx" : "srun with PMI";
  }
  if (environment_variable("OMPI_COMM_WORLD_SIZE")) return "mpirun";
  return environment_variable("PMI_RANK") ? "a launcher with PMI" : "";
}

Finding judge_ranks(engine::Communicator& comm, int host_count) {
  const std::string hosts = describe_hosts(comm);
  const std::string launcher = launcher_name();
  if (launcher.empty()) {
    return {Verdict::warn, "ranks", hosts + ", no launcher",
            "to see the nodes of a job, start this with its launcher (mpirun, srun), or set "
            "job.doctor"};
  }
  const auto text = fmt::format("{}, by {}, {}", hosts, launcher, engine::mpi_library_version());
  // Who pays for a node wants ranks on it.
  if (const auto list = environment_variable("SLURM_JOB_NODELIST")) {
    const auto nodes = static_cast<int>(expand_host_list(*list).size());
    if (nodes != host_count) {
      return {Verdict::fail, "ranks",
              fmt::format("{}; the allocation has {} nodes ({})", text, nodes, *list),
              "say nodes and ranks again on the launcher's line, as \"hadal render\" does"};
    }
  }
  return {Verdict::ok, "ranks", text, ""};
}

Finding judge_hdf5() {
  return {Verdict::ok, "HDF5",
          fmt::format("decoded past the library and its lock: deflate shuffle fletcher32 lzf lz4 "
                      "zstd bitshuffle {}",
                      io::optional_decoders()),
          ""};
}

Findings examine_gpus(engine::Communicator& comm, const engine::RunOptions& run) {
  Findings findings =
      judge_gpus(gather_gpu_reports(comm), run.share_gpus, engine::cuda_oldest_capability());
  if (findings.empty() || findings.front().verdict != Verdict::ok) return findings;
  const engine::DeviceChoice choice = choose_device(comm, run);
  if (choice.kind != engine::DeviceKind::cuda || comm.size() == 1) return findings;
  std::unique_ptr<engine::Device> device;
  engine::run_collectively(comm, "opening the devices",
                           [&] { device = engine::open_device(choice, {}); });
  const auto messages = engine::connect_devices(comm, *device, {.timeout = kConnectSeconds});
  findings.push_back(judge_pairs("GPU messages", measure_gpu_pairs(comm, *device, *messages)));
  return findings;
}

// The shortest job that is worth its start: a save and another start.
constexpr double kLittleTime = 120;

Finding judge_time() {
  for (const char* name : {"HADAL_END_TIME", "SLURM_JOB_END_TIME"}) {
    const auto text = environment_variable(name);
    if (!text) continue;
    const double left =
        std::strtod(text->c_str(), nullptr) - static_cast<double>(std::time(nullptr));
    const auto told = fmt::format("{:.0f} min left of the allocation", left / 60);
    if (left < kLittleTime) {
      return {Verdict::warn, "time", told, "too little to train in; ask for more (job.time)"};
    }
    return {Verdict::ok, "time", told, ""};
  }
  if (environment_variable("SLURM_JOB_ID")) {
    return {Verdict::warn, "time", "the end of the allocation is not known to the ranks",
            "set HADAL_END_TIME, as the scripts of \"hadal render\" do"};
  }
  return {Verdict::ok, "time", "no allocation", ""};
}

void print(const Finding& finding) {
  fmt::print("{:<4}  {:<17}  {}\n", name_of(finding.verdict), finding.what, finding.text);
  if (!finding.cure.empty()) fmt::print("                         -> {}\n", finding.cure);
}

}  // namespace

int doctor(const DoctorArguments& arguments, engine::Communicator& comm) {
  PlaceWishes wishes;
  engine::RunOptions run;
  std::filesystem::path folder = std::filesystem::current_path();
  std::int64_t room = 0;
  if (!arguments.config.config.empty()) {
    LoadedConfig config;
    engine::run_collectively(comm, "read the config", [&] {
      config = load_config(arguments.config.config, arguments.config.settings);
    });
    wishes.threads = config.run.run.threads;
    run = config.run.run;
    folder = config.run.run.dir;
    const io::DataIndex data = engine::open_dataset(comm, config.run.data, engine::Split::train);
    engine::ModelSize size;
    engine::run_collectively(comm, "build the model", [&] {
      size = engine::model_size(config.run, *engine::check_model(config.run, data));
    });
    room = size.checkpoint_bytes * (config.run.checkpoint.keep + 1);
    wishes.shared_memory_per_host = size.reduction_bytes + size.worker_bytes;
  }
  const std::vector<RankPlace> places = gather_places(comm);
  std::set<std::string> hosts;
  for (const RankPlace& place : places) hosts.insert(place.host);
  Findings findings{judge_ranks(comm, static_cast<int>(hosts.size()))};
  const auto add = [&](Findings more) {
    findings.insert(findings.end(), more.begin(), more.end());
  };
  add(judge_places(places, wishes));
  add({judge_pairs("network", measure_pairs(comm)), judge_clocks(measure_clocks(comm))});
  add(examine_gpus(comm, run));
  add(examine_storage(comm, folder, room));
  add({judge_hdf5(), judge_time()});
  std::int32_t code = 0;
  if (comm.rank() == 0) {
    const bool fails = std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
      return finding.verdict == Verdict::fail;
    });
    code = fails ? static_cast<std::int32_t>(io::ErrorKind::launch) : 0;
    if (arguments.json) {
      nlohmann::ordered_json list = nlohmann::ordered_json::array();
      for (const Finding& f : findings) {
        list.push_back({{"verdict", name_of(f.verdict)},
                        {"what", f.what},
                        {"text", f.text},
                        {"cure", f.cure}});
      }
      fmt::print("{}\n", io::json_text(list, 1));
    } else {
      for (const Finding& finding : findings) print(finding);
    }
  }
  comm.broadcast(std::as_writable_bytes(std::span(&code, 1)), 0);
  return code;
}

}  // namespace hadal::launch
