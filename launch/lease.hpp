#pragma once
// The right to write a run folder, for one start at a time on any node. A lock of the kernel tells
// at once where it reaches; NFS and Lustre may be mounted such that it ends at the node, so the
// owner also counts in the file as long as it lives.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "io/atomic_file.hpp"

namespace hadal::launch {

class Lease {
 public:
  // Takes the folder through the file `lock` in it. Throws a launch error that names the owner
  // where a live run has it, a storage error where the file cannot be written. A run of another
  // node that did not say that it ended is watched for a while first. `lost` is called from a
  // thread, once, where another start has taken the folder nevertheless: this process was stopped
  // for long.
  struct Times {
    std::chrono::milliseconds beat{5'000};
    // A living owner has counted several times in it, whatever NFS keeps in its caches.
    std::chrono::milliseconds watch{20'000};
  };
  Lease(const std::filesystem::path& folder, std::function<void(const std::string& owner)> lost,
        Times times);
  Lease(const std::filesystem::path& folder, std::function<void(const std::string& owner)> lost)
      : Lease(folder, std::move(lost), Times{}) {}
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

 private:
  struct Owner;
  Owner read() const;
  void write(std::int64_t count) const;
  void count();

  std::filesystem::path path_;
  std::function<void(const std::string&)> lost_;
  Times times_;
  std::string mark_;
  io::UniqueFd lock_;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

}  // namespace hadal::launch
