#include "launch/cores.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "io/error.hpp"
#include "io/json.hpp"
#include "io/log.hpp"
#include "launch/environment.hpp"
#include "launch/gpus.hpp"
#include "launch/system_file.hpp"

namespace hadal::launch {
namespace {

// Of a rank on a machine that is for everybody's small things.
constexpr int kModestWorkers = 2;

namespace fs = std::filesystem;

// Without one ("max", no such file) the largest there is.
std::int64_t limit_in(const fs::path& path) {
  const std::string text = first_line(path);
  return text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) == 0 ? INT64_MAX
                                                                                : std::stoll(text);
}

// Of a group and of all above it: Slurm limits the job and its step, not the task's own group.
std::int64_t group_limit(const fs::path& groups, fs::path group, const char* file) {
  std::int64_t limit = limit_in(groups / file);
  for (group = group.relative_path(); !group.empty(); group = group.parent_path()) {
    limit = std::min(limit, limit_in(groups / group / file));
  }
  return limit;
}

}  // namespace

std::vector<int> physical_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof mask, &mask);
  std::vector<int> processors;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) processors.push_back(cpu);
  }
  return physical_cores(processors);
}

std::vector<int> physical_cores(const std::vector<int>& processors, const fs::path& root) {
  std::vector<int> cores;
  std::set<std::string> seen;
  for (const int cpu : processors) {
    const std::string siblings = first_line(
        root / fmt::format("sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    if (siblings.empty() || seen.insert(siblings).second) cores.push_back(cpu);
  }
  return cores;
}

std::int64_t memory_limit_bytes(const fs::path& root) {
  std::int64_t limit = INT64_MAX;
  std::ifstream meminfo(root / "proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    if (line.starts_with("MemAvailable:")) limit = std::stoll(line.substr(13)) * 1024;
  }
  const fs::path groups = root / "sys/fs/cgroup";
  std::ifstream own(root / "proc/self/cgroup");
  for (std::string line; std::getline(own, line);) {
    const std::string group = line.substr(line.rfind(':') + 1);
    if (line.starts_with("0::")) limit = std::min(limit, group_limit(groups, group, "memory.max"));
    if (line.find(":memory:") != std::string::npos) {
      limit = std::min(limit, group_limit(groups / "memory", group, "memory.limit_in_bytes"));
    }
  }
  // A site may end jobs that take more without giving them a group. 0: all that a node has.
  const std::int64_t slurm =
      std::atoll(environment_variable("SLURM_MEM_PER_NODE").value_or("0").c_str());
  return slurm > 0 ? std::min(limit, slurm << 20) : limit;
}

int workers_of(const WorkerChoice& choice) {
  const int fitting = std::max(1, choice.cores / choice.threads);
  if (choice.wished > 0) return std::min(choice.wished, fitting);
  return choice.login_node ? std::min(kModestWorkers, fitting) : fitting;
}

bool on_login_node() {
  if (environment_variable("SLURM_JOB_ID")) return false;
  std::error_code failure;
  return environment_variable("SLURM_CONF").has_value() ||
         fs::exists("/etc/slurm/slurm.conf", failure) ||
         fs::exists("/run/slurm/conf/slurm.conf", failure);
}

engine::Place find_place(engine::Communicator& comm, const engine::RunOptions& run) {
  const int wished = run.workers, threads = run.threads;
  const std::vector<int> mine = physical_cores();
  const nlohmann::json here = {{"host", comm.host()}, {"cores", mine}};
  int ranks_on_host = 0, sharing = 0;
  for (const std::string& text : engine::all_gather_text(comm, here.dump())) {
    const auto other = io::parse_json(text);
    if (other.at("host") != here.at("host")) continue;
    ++ranks_on_host;
    const auto cores = other.at("cores").get<std::vector<int>>();
    const bool overlap = std::any_of(cores.begin(), cores.end(), [&](int core) {
      return std::find(mine.begin(), mine.end(), core) != mine.end();
    });
    if (overlap) ++sharing;
  }
  const int cores = std::max(1, static_cast<int>(mine.size()) / std::max(1, sharing));
  if (threads > static_cast<int>(mine.size())) {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("run.threads = {}, but this rank may use {} cores ({}); give it more cores "
                    "or lower run.threads (part of the run's identity)",
                    threads, mine.size(), comm.host()));
  }
  const auto limit = environment_variable("OMP_THREAD_LIMIT");
  if (limit && std::atoi(limit->c_str()) < threads) {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("OMP_THREAD_LIMIT={} allows fewer than run.threads = {} threads, on which "
                    "operators would wait for ever; unset it",
                    *limit, threads));
  }
  const WorkerChoice choice{cores, threads, wished, on_login_node()};
  engine::Place place;
  place.workers = workers_of(choice);
  if (wished > place.workers && comm.rank() == 0) {
    io::log_warning(
        fmt::format("run.workers = {} is more than the {} cores of a rank hold; {} workers", wished,
                    cores, place.workers));
  }
  const int all = workers_of({cores, threads, wished, false});
  if (place.workers < all && comm.rank() == 0) {
    io::log_info(
        fmt::format("Slurm is here and this is none of its jobs: {} workers of the {} that the "
                    "cores hold, to leave the rest to others; run.workers sets another number",
                    place.workers, all));
  }
  place.device = choose_device(comm, run);
  // One thread queues for a device.
  if (place.device.kind != engine::DeviceKind::cpu) place.workers = 1;
  place.memory_bytes = memory_limit_bytes() / std::max(1, ranks_on_host);
  return place;
}

std::string describe_hosts(engine::Communicator& comm) {
  std::map<std::string, int> ranks;
  for (const std::string& host : engine::all_gather_text(comm, comm.host())) ++ranks[host];
  std::vector<std::string> parts;
  for (const auto& [host, count] : ranks) {
    parts.push_back(fmt::format("{} rank{} on {}", count, count == 1 ? "" : "s", host));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace hadal::launch
