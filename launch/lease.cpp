#include "launch/lease.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <random>
#include <sstream>

#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kPause = 50ms;
constexpr const char* kEnded = "ended";

// Of the machine and its start: under it a process number means one process, and locks reach.
std::string kernel_of_this_node() {
  try {
    std::string text = io::read_file("/proc/sys/kernel/random/boot_id");
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
  } catch (const io::Error&) {
    return "unknown";
  }
}

std::string name_of_this_process() {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return fmt::format("process {} on {}", ::getpid(), host);
}

std::string random_mark() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

}  // namespace

// What the file says: two lines, "process 123 on node7" and "KERNEL MARK COUNT".
struct Lease::Owner {
  std::string name;  // empty: none
  std::string kernel;
  std::string mark;
  std::int64_t count = 0;
};

Lease::Lease(const fs::path& folder, std::function<void(const std::string&)> lost, Times times)
    : path_(folder / "lock"),
      lost_(std::move(lost)),
      times_(times),
      mark_(random_mark()),
      lock_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (!lock_) {
    throw io::system_error(io::ErrorKind::storage, "cannot write in", folder.string(), errno);
  }
  const auto owned = [&](const std::string& owner) {
    return io::Error(
        io::ErrorKind::launch,
        fmt::format("a live run owns {} ({}); wait for it, stop it with \"touch {}/STOP\", or "
                    "choose another run.dir",
                    folder.string(), owner, folder.string()));
  };
  const bool locked = ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0;
  const Owner before = read();
  if (!locked && errno == EWOULDBLOCK) throw owned(before.name);
  const bool reaches = locked && before.kernel == kernel_of_this_node();
  if (!before.name.empty() && !reaches) {
    io::log_info(
        fmt::format("the last start in {}, {}, did not say that it ended: looking for {} "
                    "seconds whether it lives",
                    folder.string(), before.name, times_.watch / 1s));
    for (auto waited = 0ms; waited < times_.watch; waited += kPause) {
      std::this_thread::sleep_for(kPause);
      const Owner now = read();
      if (now.mark != before.mark || now.count != before.count) throw owned(now.name);
    }
  }
  if (!before.name.empty()) {
    io::log_info(fmt::format("the last start in {}, {}, has gone without saying so: taken over",
                             folder.string(), before.name));
  }
  write(0);
  thread_ = std::thread([this] { count(); });
}

Lease::~Lease() {
  ends_ = true;
  thread_.join();
  try {
    if (read().mark == mark_) {
      const std::string text = fmt::format("{}\n", kEnded);
      if (::ftruncate(lock_.get(), 0) == 0) {
        io::write_at(lock_.get(), std::as_bytes(std::span(text)), 0, path_);
      }
    }
  } catch (const io::Error&) {
    // The next start looks for itself.
  }
}

// Opened anew each time: only then NFS asks its server.
Lease::Owner Lease::read() const {
  Owner owner;
  try {
    std::istringstream lines(io::read_file(path_));
    std::getline(lines, owner.name);
    lines >> owner.kernel >> owner.mark >> owner.count;
    if (owner.name == kEnded) owner = {};
  } catch (const io::Error&) {
    // Removed under it: nobody's.
  }
  return owner;
}

void Lease::write(std::int64_t count) const {
  const std::string text = fmt::format("{}\n{} {} {:<12}\n", name_of_this_process(),
                                       kernel_of_this_node(), mark_, count);
  if (count == 0 && ::ftruncate(lock_.get(), 0) != 0) {
    throw io::system_error(io::ErrorKind::storage, "cannot write", path_.string(), errno);
  }
  io::write_at(lock_.get(), std::as_bytes(std::span(text)), 0, path_);
  io::sync_file(lock_.get(), path_);
}

void Lease::count() {
  std::int64_t counted = 0;
  auto next = std::chrono::steady_clock::now() + times_.beat;
  while (!ends_) {
    std::this_thread::sleep_for(kPause);
    if (std::chrono::steady_clock::now() < next) continue;
    next += times_.beat;
    const Owner now = read();
    if (!now.mark.empty() && now.mark != mark_) {
      lost_(now.name);
      return;
    }
    try {
      write(++counted);
    } catch (const io::Error&) {
      // A full disk must not end a run; whoever starts another one sees it standing still.
    }
  }
}

}  // namespace hadal::launch
