#include "engine/comm/host_memory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <random>

#include "engine/comm/polling.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

std::string reason_of(const char* what, int error) {
  return fmt::format("{}: {}", what, std::strerror(error));
}

// Two hosts of one name must not be taken for one, nor a number that now belongs to another
// process.
std::uint64_t random_mark() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace

struct HostMemory::Header {
  std::atomic<std::uint64_t> mark;
  std::atomic<int> arrived;
  std::atomic<std::uint32_t> round;
};

HostMemory::HostMemory(Communicator& comm, const std::function<Sizes(const Hosts&)>& sizes)
    : comm_(comm) {
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
  std::vector<std::string> names = all_gather_text(comm, comm.host());
  group(names);
  const Sizes wanted = sizes(hosts_);
  common_ = whole_pages(wanted.common);
  part_ = whole_pages(wanted.part);
  std::vector<std::size_t> parts(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&part_, 1)), std::as_writable_bytes(std::span(parts)));
  part_ = *std::max_element(parts.begin(), parts.end());
  if (std::ssize(hosts_) == comm.size()) {
    map_alone();
    return;
  }
  std::string where;
  std::string failure;
  const bool shares = size() > 1;
  if (shares && rank_ == 0) failure = create(where);
  const std::vector<std::string> places = all_gather_text(comm, where);
  const std::string& place =
      places[static_cast<std::size_t>(hosts_[static_cast<std::size_t>(host_)].front())];
  if (shares && rank_ != 0 && !place.empty()) failure = open(place);
  const std::vector<std::string> failures = all_gather_text(comm, failure);
  file_.reset();
  std::string told;
  for (const std::vector<int>& host : hosts_) {
    for (const int r : host) {
      const std::string& reason = failures[static_cast<std::size_t>(r)];
      if (reason.empty()) continue;
      if (told.empty()) told = fmt::format("{} (rank {}): {}", names[std::size_t(r)], r, reason);
      for (const int alone : host)
        names[static_cast<std::size_t>(alone)] = fmt::format("#{}", alone);
    }
  }
  if (told.empty()) {
    if (!shares) map_alone();
    return;
  }
  if (comm.rank() == 0) {
    // A run takes such memory several times.
    io::log_once(io::LogLevel::warning,
                 fmt::format("the ranks of a host share no memory, so they exchange messages and "
                             "keep a copy of the parameters each; the reason on {}",
                             told));
  }
  const bool lost = names[static_cast<std::size_t>(comm.rank())].starts_with('#');
  group(names);
  if (lost && mapped_ != nullptr) ::munmap(mapped_, bytes_);
  if (size() == 1) map_alone();
}

HostMemory::~HostMemory() {
  if (mapped_ != nullptr) ::munmap(mapped_, bytes_);
}

void HostMemory::group(const std::vector<std::string>& names) {
  hosts_.clear();
  for (std::size_t r = 0; r < names.size(); ++r) {
    auto host = std::find_if(hosts_.begin(), hosts_.end(), [&](const std::vector<int>& ranks) {
      return names[static_cast<std::size_t>(ranks.front())] == names[r];
    });
    if (host == hosts_.end()) host = hosts_.emplace(hosts_.end());
    if (static_cast<int>(r) == comm_.rank()) {
      host_ = static_cast<int>(host - hosts_.begin());
      rank_ = static_cast<int>(host->size());
    }
    host->push_back(static_cast<int>(r));
  }
}

// Makes the file and says where the others find it: PROCESS DESCRIPTOR MARK.
std::string HostMemory::create(std::string& where) {
  bytes_ = kPage + common_ + part_ * static_cast<std::size_t>(size());
  file_ = io::UniqueFd(::memfd_create("hadal", MFD_CLOEXEC));
  if (!file_) return reason_of("memfd_create", errno);
  if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0)
    return reason_of("ftruncate", errno);
  if (std::string failure = map(file_.get()); !failure.empty()) return failure;
  if (std::string failure = allocate_own(file_.get()); !failure.empty()) return failure;
  const std::uint64_t mark = random_mark();
  reinterpret_cast<Header*>(mapped_)->mark.store(mark);
  where = fmt::format("{} {} {}", ::getpid(), file_.get(), mark);
  return {};
}

std::string HostMemory::open(const std::string& where) {
  long process = 0;
  int number = 0;
  unsigned long long mark = 0;
  if (std::sscanf(where.c_str(), "%ld %d %llu", &process, &number, &mark) != 3) return where;
  bytes_ = kPage + common_ + part_ * static_cast<std::size_t>(size());
  const std::string path = fmt::format("/proc/{}/fd/{}", process, number);
  const std::string its = fmt::format("the memory of process {}", process);
  const io::UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file) return reason_of(its.c_str(), errno);
  if (::lseek(file.get(), 0, SEEK_END) != static_cast<off_t>(bytes_)) {
    return its + " is not what the first rank of this host made";
  }
  if (std::string failure = map(file.get()); !failure.empty()) return failure;
  if (std::string failure = allocate_own(file.get()); !failure.empty()) return failure;
  if (reinterpret_cast<Header*>(mapped_)->mark.load() != mark) {
    return its + " is not what the first rank of this host made";
  }
  return {};
}

// Its own part, and its share of what is common: the pages lie near the rank that takes them.
std::string HostMemory::allocate_own(int file) const {
  const auto ranks = static_cast<std::size_t>(size());
  const auto mine = static_cast<std::size_t>(rank_);
  const std::size_t each = whole_pages((common_ + ranks - 1) / ranks);
  const std::size_t begin = std::min(common_, each * mine);
  const std::size_t end = std::min(common_, begin + each);
  const std::pair<std::size_t, std::size_t> pieces[] = {{0, mine == 0 ? kPage : 0},
                                                        {kPage + begin, end - begin},
                                                        {kPage + common_ + part_ * mine, part_}};
  for (const auto& [offset, bytes] : pieces) {
    if (bytes == 0) continue;
#ifdef MADV_POPULATE_WRITE
    // Through the mapping, so that the huge pages that it asks for are granted where they can be.
    if (::madvise(mapped_ + offset, bytes, MADV_POPULATE_WRITE) == 0) continue;
#endif
    const int error =
        ::posix_fallocate(file, static_cast<off_t>(offset), static_cast<off_t>(bytes));
    if (error != 0) {
      return fmt::format("{} MiB of memory: {}", bytes >> 20, std::strerror(error));
    }
  }
  return {};
}

std::string HostMemory::map(int file) {
  void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return reason_of("mmap", errno);
  mapped_ = static_cast<std::byte*>(memory);
  data_ = mapped_ + kPage;
  // Fewer entries in the page tables; where the system has no huge pages it stays as it is.
  static_cast<void>(::madvise(mapped_, bytes_, MADV_HUGEPAGE));
  return {};
}

void HostMemory::map_alone() {
  bytes_ = kPage + common_ + part_;
  void* memory =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw io::Error(io::ErrorKind::launch,
                    fmt::format("no memory for {} MiB of weights and gradients: {}", bytes_ >> 20,
                                std::strerror(errno)));
  }
  mapped_ = static_cast<std::byte*>(memory);
  data_ = mapped_ + kPage;
  static_cast<void>(::madvise(mapped_, bytes_, MADV_HUGEPAGE));
}

std::span<std::byte> HostMemory::part(int rank) const {
  return at(common_ + part_ * static_cast<std::size_t>(rank), part_);
}

void HostMemory::barrier() {
  if (size() == 1) return;
  Header& header = *reinterpret_cast<Header*>(mapped_);
  const std::uint32_t round = header.round.load(std::memory_order_acquire);
  if (header.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size()) {
    header.arrived.store(0, std::memory_order_relaxed);
    header.round.store(round + 1, std::memory_order_release);
    return;
  }
  poll_until([&] { return header.round.load(std::memory_order_acquire) != round; });
}

}  // namespace hadal::engine
