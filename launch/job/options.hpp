#pragma once
// What [job] of a config says: how the run becomes a job of a batch system. Free: it changes no
// bit.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace hadal::launch {

enum class Launcher { srun, mpirun };
enum class OnStop { requeue, chain, exit };

inline std::string name_of(OnStop on_stop) {
  return on_stop == OnStop::requeue ? "requeue" : (on_stop == OnStop::chain ? "chain" : "exit");
}

struct ContainerOptions {
  std::string image;  // empty: none
  std::string runtime = "apptainer";
  std::vector<std::string> bind;
  std::vector<std::string> options;
};

// From where to where, as rclone names places.
using Staging = std::vector<std::pair<std::string, std::string>>;

struct JobOptions {
  int nodes = 1;
  int ranks_per_node = 1;
  int cpus_per_rank = 0;  // physical cores; 0: not said
  int gpus_per_node = 0;
  std::string gpu_type;
  std::int64_t memory_per_node = 0;  // bytes; 0: the site's default
  std::int64_t time = 0;             // seconds; 0: not said
  std::string queue;
  std::string account;
  std::string qos;
  std::string constraint;
  std::string reservation;
  bool exclusive = false;
  std::string mail;
  std::vector<std::string> native;
  Launcher launcher = Launcher::srun;
  std::string mpi = "pmix";
  OnStop on_stop = OnStop::requeue;
  int max_restarts = 20;
  std::int64_t signal_lead = 0;  // seconds; 0: from the size of a checkpoint
  std::vector<std::string> modules;
  std::vector<std::string> setup;
  std::string hadal = "hadal";
  bool doctor = false;
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> pass_env;
  ContainerOptions container;
  Staging stage_in;
  Staging stage_out;

  int ranks() const { return nodes * ranks_per_node; }
  int cpus_per_node() const { return ranks_per_node * cpus_per_rank; }
};

}  // namespace hadal::launch
