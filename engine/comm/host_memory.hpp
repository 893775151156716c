#pragma once
// Memory that the ranks of a host share, so that what one writes the others read in place. One
// anonymous file in memory a host, allocated whole before its first use: a host that runs short
// says so at the start, not as a bus error later. It needs no /dev/shm, which containers keep
// small, and vanishes with its last process.

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "io/atomic_file.hpp"

namespace hadal::engine {

class HostMemory {
 public:
  // The ranks of each host; hosts in the order of their first ranks.
  using Hosts = std::vector<std::vector<int>>;
  // Bytes of a host, and of each of its ranks.
  struct Sizes {
    std::size_t common = 0;  // the same on all ranks
    std::size_t part = 0;    // the largest of all ranks holds
  };

  // Collective over `comm`, which must outlive this. What it gives starts at a page and as zeros;
  // the sizes may depend on where the ranks are.
  // Where the ranks of a host cannot share memory (containers of their own, say), each of them
  // counts as a host of its own from then on, and the log tells the reason once.
  HostMemory(Communicator& comm, const std::function<Sizes(const Hosts&)>& sizes);
  HostMemory(Communicator& comm, std::size_t common, std::size_t part)
      : HostMemory(comm, [=](const Hosts&) {
          return Sizes{common, part};
        }) {}
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  const Hosts& hosts() const { return hosts_; }
  // Of this rank: its host, and its place among that host's ranks.
  int host() const { return host_; }
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(hosts_[static_cast<std::size_t>(host_)].size()); }

  std::span<std::byte> common() const { return at(0, common_); }
  // Of the host's rank `rank`. Only that rank writes there.
  std::span<std::byte> part(int rank) const;

  // Collective over the ranks of the host. What they wrote before, all can read after.
  void barrier();

 private:
  struct Header;

  void group(const std::vector<std::string>& names);
  std::span<std::byte> at(std::size_t offset, std::size_t bytes) const {
    return {data_ + offset, bytes};
  }
  std::string create(std::string& where);
  std::string open(const std::string& where);
  std::string allocate_own(int file) const;
  std::string map(int file);
  void map_alone();

  Communicator& comm_;
  std::size_t common_ = 0;
  std::size_t part_ = 0;
  std::size_t bytes_ = 0;  // mapped, header included
  Hosts hosts_;
  int host_ = 0;
  int rank_ = 0;
  io::UniqueFd file_;  // of the host's first rank, until the others have opened it
  std::byte* mapped_ = nullptr;
  std::byte* data_ = nullptr;  // behind the header
};

}  // namespace hadal::engine
