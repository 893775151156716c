#include "launch/cores.hpp"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

namespace fs = std::filesystem;

// A machine whose /proc and /sys a test writes.
class Machine {
 public:
  Machine() : root_(fs::temp_directory_path() / ("hadal-cores-" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
  }
  ~Machine() { fs::remove_all(root_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  void put(const fs::path& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  void siblings(int cpu, const std::string& text) const {
    put("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
        text);
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

}  // namespace

TEST_CASE("workers fill a job's cores, and few of a login node's") {
  REQUIRE(launch::workers_of({.cores = 64}) == 64);
  REQUIRE(launch::workers_of({.cores = 64, .threads = 4}) == 16);
  REQUIRE(launch::workers_of({.cores = 64, .wished = 8}) == 8);
  REQUIRE(launch::workers_of({.cores = 4, .wished = 8}) == 4);
  REQUIRE(launch::workers_of({.cores = 128, .login_node = true}) == 2);
  REQUIRE(launch::workers_of({.cores = 1, .login_node = true}) == 1);
  REQUIRE(launch::workers_of({.cores = 128, .wished = 64, .login_node = true}) == 64);
}

TEST_CASE("where Slurm is, outside of its jobs, others work too") {
  ::unsetenv("SLURM_JOB_ID");
  ::setenv("SLURM_CONF", "/site/slurm.conf", 1);
  REQUIRE(launch::on_login_node());
  ::setenv("SLURM_JOB_ID", "7", 1);
  REQUIRE_FALSE(launch::on_login_node());
  ::unsetenv("SLURM_JOB_ID");
  ::unsetenv("SLURM_CONF");
}

TEST_CASE("hardware threads of one core are one core") {
  const Machine machine;
  // As Linux numbers two cores of two threads on most machines, and on some in pairs.
  for (const int cpu : {0, 2}) machine.siblings(cpu, "0,2");
  for (const int cpu : {1, 3}) machine.siblings(cpu, "1,3");
  for (const int cpu : {4, 5}) machine.siblings(cpu, "4-5");
  REQUIRE(launch::physical_cores({0, 1, 2, 3}, machine.root()) == std::vector{0, 1});
  REQUIRE(launch::physical_cores({0, 1, 2, 3, 4, 5}, machine.root()) == std::vector{0, 1, 4});
  // A mask that holds the second threads only still holds their cores.
  REQUIRE(launch::physical_cores({2, 3, 5}, machine.root()) == std::vector{2, 3, 5});
  // A machine that does not say.
  REQUIRE(launch::physical_cores({6, 7}, machine.root()) == std::vector{6, 7});
  REQUIRE(launch::physical_cores({}, machine.root()).empty());
}

TEST_CASE("the memory that counts is the least of all limits") {
  constexpr std::int64_t kGiB = std::int64_t{1} << 30;
  ::unsetenv("SLURM_MEM_PER_NODE");
  const Machine machine;
  machine.put("proc/meminfo", "MemTotal: 536870912 kB\nMemFree: 1 kB\nMemAvailable: 268435456 kB");
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 256 * kGiB);

  // Control groups of the second version, as Slurm sets them: the job's limit, none of the task's.
  machine.put("proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_1");
  const fs::path job = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7";
  machine.put(job / "step_0/user/task_1/memory.max", "max");
  machine.put(job / "step_0/memory.max", std::to_string(128 * kGiB));
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 128 * kGiB);
  machine.put(job / "memory.max", std::to_string(64 * kGiB));
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 64 * kGiB);
  // A container whose own group is the root of what it sees.
  machine.put("sys/fs/cgroup/memory.max", std::to_string(32 * kGiB));
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 32 * kGiB);

  // Of the first version.
  machine.put("proc/self/cgroup",
              "11:cpuset:/slurm/uid_1/job_7\n9:memory:/slurm/uid_1/job_7/step_0/task_1\n0::/");
  machine.put("sys/fs/cgroup/memory.max", "max");
  machine.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  machine.put("sys/fs/cgroup/memory/slurm/uid_1/job_7/memory.limit_in_bytes",
              std::to_string(16 * kGiB));
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 16 * kGiB);

  // What Slurm gave the job, in MiB; 0 is the whole node.
  ::setenv("SLURM_MEM_PER_NODE", "8192", 1);
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 8 * kGiB);
  ::setenv("SLURM_MEM_PER_NODE", "0", 1);
  REQUIRE(launch::memory_limit_bytes(machine.root()) == 16 * kGiB);
  ::unsetenv("SLURM_MEM_PER_NODE");
}
