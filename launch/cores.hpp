#pragma once
// What this rank may use of its host: physical cores of the affinity mask, and memory.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/run.hpp"

namespace hadal::launch {

// Collective. Ranks of one host whose masks overlap share them out; `run` says how many cores a
// worker has and how many workers are wished for (never more than the cores allow), and where to
// compute.
engine::Place find_place(engine::Communicator& comm, const engine::RunOptions& run);

// What decides how many workers a rank has.
struct WorkerChoice {
  int cores = 1;    // of the rank, its share of the host's
  int threads = 1;  // of a worker
  int wished = 0;   // run.workers; 0: as many as fit
  bool login_node = false;
};
int workers_of(const WorkerChoice& choice);

// True where Slurm is set up and this process is in none of its jobs: others work here too.
bool on_login_node();

// Of these logical processors, one of each physical core; hardware threads of one core count once.
// Without processors: those of this process's affinity mask. `root` is where /proc and /sys are.
std::vector<int> physical_cores();
std::vector<int> physical_cores(const std::vector<int>& processors,
                                const std::filesystem::path& root = "/");

// What this process may use of its host: the least of the memory that is free, the limits of its
// control group and of all groups above it, and what Slurm gave the job on each node.
std::int64_t memory_limit_bytes(const std::filesystem::path& root = "/");

// "4 ranks on n1, 4 ranks on n2"
std::string describe_hosts(engine::Communicator& comm);

}  // namespace hadal::launch
