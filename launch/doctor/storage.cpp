#include "launch/doctor/storage.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "engine/stopwatch.hpp"
#include "io/atomic_file.hpp"
#include "io/error.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kProbe = 32 << 20;
// A network file system shows a new name to others after its attribute cache's time (nfs(5),
// acdirmax).
constexpr std::chrono::seconds kVisible{60};
constexpr double kSlowSync = 1.0;

std::string kind_of(const fs::path& folder) {
  // linux/magic.h, and what the other file systems' sources say.
  static const std::map<std::int64_t, const char*> kinds{
      {0xEF53, "ext4"},       {0x58465342, "XFS"},    {0x9123683E, "Btrfs"},
      {0x01021994, "tmpfs"},  {0x6969, "NFS"},        {0x0BD00BD0, "Lustre"},
      {0x47504653, "GPFS"},   {0x19830326, "BeeGFS"}, {0xAAD7AAEA, "PanFS"},
      {0x00C36400, "CephFS"}, {0x65735546, "FUSE"},   {0x794C7630, "overlayfs"},
      {0x2FC12FC1, "ZFS"}};
  struct statfs facts {};
  if (::statfs(folder.c_str(), &facts) != 0) return "unknown";
  const auto found = kinds.find(static_cast<std::int64_t>(facts.f_type) & 0xFFFFFFFF);
  return found == kinds.end() ? fmt::format("a file system of type {:#x}", facts.f_type)
                              : found->second;
}

// Seconds to write the probe so that a crash would not lose it, and those of the sync alone.
std::pair<double, double> write_probe(const fs::path& path) {
  const std::string bytes(kProbe, 'h');
  const io::UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file) throw io::system_error(io::ErrorKind::storage, "cannot write", path.string(), errno);
  const engine::Stopwatch whole;
  io::write_at(file.get(), std::as_bytes(std::span(bytes)), 0, path);
  const engine::Stopwatch sync;
  io::sync_file(file.get(), path);
  return {whole.seconds(), sync.seconds()};
}

// The hosts that do not see, in time, what the first rank has renamed into its place.
std::set<std::string> blind_hosts(engine::Communicator& comm, const fs::path& file,
                                  const std::string& content) {
  bool seen = false;
  const auto end = std::chrono::steady_clock::now() + kVisible;
  std::error_code failure;
  while (!seen && std::chrono::steady_clock::now() < end) {
    // Listing the folder makes a network file system look again.
    for (const auto& entry : fs::directory_iterator(file.parent_path(), failure)) {
      seen = seen || entry.path() == file;
    }
    // A folder that is not there does not come by waiting.
    if (failure) break;
    if (!seen) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  try {
    seen = seen && io::read_file(file) == content;
  } catch (const io::Error&) {
    seen = false;
  }
  std::set<std::string> blind;
  for (const std::string& host : engine::all_gather_text(comm, seen ? "" : comm.host())) {
    if (!host.empty()) blind.insert(host);
  }
  return blind;
}

Finding judge_speed(const fs::path& folder, std::pair<double, double> seconds) {
  const auto [whole, sync] = seconds;
  const auto text = fmt::format("{}, {:.0f} MB/s, of which fsync took {:.2f} s", kind_of(folder),
                                static_cast<double>(kProbe) / whole / 1e6, sync);
  if (sync > kSlowSync) {
    return {Verdict::warn, "checkpoint folder", text,
            "checkpoints will take long; take a folder of the parallel file system (run.dir)"};
  }
  return {Verdict::ok, "checkpoint folder", text, ""};
}

Finding judge_room(const fs::path& folder, std::int64_t wanted) {
  constexpr double kGiB = 1 << 30;
  const std::int64_t free = io::free_bytes(folder);
  const auto text = fmt::format("{:.1f} GiB free", static_cast<double>(free) / kGiB);
  if (free >= 0 && free < wanted) {
    return {Verdict::fail, "room",
            fmt::format("{}, the checkpoints of this run want {:.1f}", text,
                        static_cast<double>(wanted) / kGiB),
            "make room, keep fewer (checkpoint.keep), or take another folder (run.dir)"};
  }
  return {Verdict::ok, "room", text, ""};
}

}  // namespace

Findings examine_storage(engine::Communicator& comm, const fs::path& folder,
                         std::int64_t wanted_bytes) {
  const fs::path probe = folder / fmt::format(".doctor-{}", comm.host());
  const std::string name = engine::broadcast_text(comm, probe.string());
  const fs::path file = name + "-renamed";
  std::string problem;
  std::pair<double, double> seconds;
  if (comm.rank() == 0) {
    try {
      io::create_folders(folder);
      seconds = write_probe(name);
      io::write_file_atomically(file, name);
    } catch (const io::Error& error) {
      problem = error.what();
    }
  }
  problem = engine::broadcast_text(comm, problem);
  if (!problem.empty()) {
    return {{Verdict::fail, "checkpoint folder", problem,
             "take a folder that can be written (run.dir)"}};
  }
  const std::set<std::string> blind = blind_hosts(comm, file, name);
  Findings findings;
  if (comm.rank() == 0) {
    findings = {judge_speed(folder, seconds), judge_room(folder, wanted_bytes)};
    std::error_code ignored;
    fs::remove(name, ignored);
    fs::remove(file, ignored);
  }
  comm.barrier();
  if (blind.empty()) {
    findings.push_back(
        {Verdict::ok, "shared folder", "every host sees what another one renames", ""});
  } else {
    findings.push_back(
        {Verdict::fail, "shared folder",
         fmt::format("{} is not the same on {}", folder.string(), fmt::join(blind, ", ")),
         "take a folder that all nodes share (run.dir)"});
  }
  return findings;
}

}  // namespace hadal::launch
