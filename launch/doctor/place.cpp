#include "launch/doctor/place.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/fingerprint.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/cores.hpp"

namespace hadal::launch {
namespace {

constexpr double kGiB = 1 << 30;
// A run has a file open for each one it reads, and some sockets for each rank.
constexpr std::int64_t kFewFiles = 1024;
// Registered buffers of an InfiniBand library, with room.
constexpr std::int64_t kLittleLocked = 64 << 20;

std::int64_t limit_of(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_max == RLIM_INFINITY) return INT64_MAX;
  return static_cast<std::int64_t>(limit.rlim_max);
}

bool has_entries(const char* folder) {
  std::error_code failure;
  std::filesystem::directory_iterator entries(folder, failure);
  return !failure && entries != std::filesystem::directory_iterator();
}

nlohmann::json to_json(const RankPlace& p) {
  return {{"host", p.host},
          {"processor", p.processor},
          {"cores", p.cores},
          {"memory", p.memory_bytes},
          {"shared_memory", p.shared_memory_bytes},
          {"open_files", p.open_files},
          {"locked", p.locked_bytes},
          {"infiniband", p.infiniband}};
}

RankPlace from_json(const nlohmann::json& j) {
  return {.host = j.at("host"),
          .processor = j.at("processor"),
          .cores = j.at("cores"),
          .memory_bytes = j.at("memory"),
          .shared_memory_bytes = j.at("shared_memory"),
          .open_files = j.at("open_files"),
          .locked_bytes = j.at("locked"),
          .infiniband = j.at("infiniband")};
}

// The ranks of each host.
std::map<std::string, std::vector<const RankPlace*>> by_host(const std::vector<RankPlace>& places) {
  std::map<std::string, std::vector<const RankPlace*>> hosts;
  for (const RankPlace& place : places) hosts[place.host].push_back(&place);
  return hosts;
}

Finding judge_cores(const std::vector<RankPlace>& places, int threads) {
  std::vector<std::string> parts, shared;
  for (const auto& [host, ranks] : by_host(places)) {
    std::set<int> cores;
    std::size_t sum = 0;
    for (const RankPlace* rank : ranks) {
      cores.insert(rank->cores.begin(), rank->cores.end());
      sum += rank->cores.size();
      if (static_cast<int>(rank->cores.size()) < threads) {
        return {Verdict::fail, "cores",
                fmt::format("a rank on {} may use {} physical cores, run.threads wants {}", host,
                            rank->cores.size(), threads),
                "give a rank more cores (job.cpus_per_rank), or lower run.threads"};
      }
    }
    parts.push_back(fmt::format("{} on {}", cores.size(), host));
    if (cores.size() < ranks.size()) {
      return {Verdict::fail, "cores",
              fmt::format("{} ranks on {} have {} physical cores in all", ranks.size(), host,
                          cores.size()),
              "start fewer ranks a host, or let them have more of it (--bind-to none, "
              "--cpus-per-task)"};
    }
    if (sum > cores.size()) shared.push_back(host);
  }
  const std::string text = fmt::format("physical ones: {}", fmt::join(parts, ", "));
  if (shared.empty()) return {Verdict::ok, "cores", text, ""};
  return {Verdict::ok, "cores", text + "; ranks of a host share them out", ""};
}

Finding judge_processors(const std::vector<RankPlace>& places) {
  std::set<std::string> names;
  for (const RankPlace& place : places) names.insert(place.processor);
  const std::string text = fmt::format("{}", fmt::join(names, "; "));
  if (names.size() == 1) return {Verdict::ok, "processor", text, ""};
  return {Verdict::warn, "processor", "several kinds: " + text,
          "their bits differ: ask for one kind (job.constraint), or pin run.isa"};
}

Finding judge_memory(const std::vector<RankPlace>& places) {
  std::int64_t least = INT64_MAX;
  for (const auto& [host, ranks] : by_host(places)) {
    least = std::min(least, ranks.front()->memory_bytes / std::ssize(ranks));
  }
  return {Verdict::ok, "memory",
          fmt::format("{:.1f} GiB a rank at least", static_cast<double>(least) / kGiB), ""};
}

Finding judge_shared_memory(const std::vector<RankPlace>& places, std::int64_t wanted) {
  const auto least =
      std::min_element(places.begin(), places.end(), [](const RankPlace& a, const RankPlace& b) {
        return a.shared_memory_bytes < b.shared_memory_bytes;
      });
  const auto text =
      fmt::format("{:.2f} GiB free in /dev/shm on {}",
                  static_cast<double>(least->shared_memory_bytes) / kGiB, least->host);
  if (least->shared_memory_bytes >= wanted) return {Verdict::ok, "shared memory", text, ""};
  return {Verdict::warn, "shared memory",
          fmt::format("{}, a run wants {:.2f}", text, static_cast<double>(wanted) / kGiB),
          "ranks will copy more; make it larger (docker --shm-size, mount -o remount,size=)"};
}

Finding judge_limits(const std::vector<RankPlace>& places) {
  for (const RankPlace& place : places) {
    if (place.open_files < kFewFiles) {
      return {Verdict::warn, "limits",
              fmt::format("{} open files on {}", place.open_files, place.host),
              "data sets of many files need more (ulimit -n)"};
    }
    if (place.infiniband && place.locked_bytes < kLittleLocked) {
      return {Verdict::warn, "limits",
              fmt::format("{} KiB of locked memory on {}", place.locked_bytes >> 10, place.host),
              "InfiniBand needs it unlimited (ulimit -l), else MPI falls back to something slow"};
    }
  }
  return {Verdict::ok, "limits", fmt::format("{} open files", places.front().open_files), ""};
}

}  // namespace

std::string name_of(Verdict verdict) {
  return verdict == Verdict::ok ? "ok" : (verdict == Verdict::warn ? "warn" : "fail");
}

RankPlace own_place(const std::string& host) {
  struct statvfs shared {};
  const bool known = ::statvfs("/dev/shm", &shared) == 0;
  return {.host = host,
          .processor = engine::processor_name(),
          .cores = physical_cores(),
          .memory_bytes = memory_limit_bytes(),
          .shared_memory_bytes =
              known ? static_cast<std::int64_t>(shared.f_bavail * shared.f_frsize) : 0,
          .open_files = limit_of(RLIMIT_NOFILE),
          .locked_bytes = limit_of(RLIMIT_MEMLOCK),
          .infiniband = has_entries("/sys/class/infiniband")};
}

std::vector<RankPlace> gather_places(engine::Communicator& comm) {
  std::vector<RankPlace> places;
  for (const std::string& text :
       engine::all_gather_text(comm, to_json(own_place(comm.host())).dump())) {
    places.push_back(from_json(io::parse_json(text)));
  }
  return places;
}

Findings judge_places(const std::vector<RankPlace>& places, const PlaceWishes& wishes) {
  return {judge_cores(places, wishes.threads), judge_processors(places), judge_memory(places),
          judge_shared_memory(places, wishes.shared_memory_per_host), judge_limits(places)};
}

}  // namespace hadal::launch
