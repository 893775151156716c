#include "launch/stack.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fmt/format.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

constexpr int kMostFrames = 64;
// Of the handler and of the system's way into it.
constexpr int kOwnFrames = 2;
constexpr int kLooks = 100;
constexpr std::chrono::milliseconds kPause(10);

pthread_t watched;
int asks = 0;  // the signal
sem_t answered;
std::array<void*, kMostFrames> frames;
int frame_count = 0;

void answer(int) {
  frame_count = ::backtrace(frames.data(), kMostFrames);
  ::sem_post(&answered);
}

std::string name_of(void* address) {
  Dl_info info{};
  if (::dladdr(address, &info) == 0) return "?";
  if (info.dli_sname == nullptr) {
    return info.dli_fname == nullptr ? "?" : fs::path(info.dli_fname).filename().string();
  }
  int failed = 0;
  const std::unique_ptr<char, void (*)(void*)> readable(
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &failed), std::free);
  return failed == 0 ? readable.get() : info.dli_sname;
}

// The calls that wait for a disk and have a descriptor first.
const char* call_name(long number) {
  switch (number) {
    case SYS_read:
      return "read";
    case SYS_pread64:
      return "pread";
    case SYS_preadv:
    case SYS_preadv2:
      return "preadv";
    case SYS_write:
      return "write";
    case SYS_pwrite64:
      return "pwrite";
    case SYS_fsync:
      return "fsync";
    case SYS_fdatasync:
      return "fdatasync";
    case SYS_fallocate:
      return "fallocate";
    case SYS_flock:
      return "flock";
    default:
      return nullptr;
  }
}

std::string files_waited_for() {
  std::string lines;
  std::error_code ignored;
  for (const auto& task : fs::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(task.path() / "syscall");
    long number = -1;
    unsigned long descriptor = 0;
    if (!(file >> number >> std::hex >> descriptor)) continue;
    const char* const call = call_name(number);
    if (call == nullptr) continue;
    const fs::path path = fs::read_symlink(fmt::format("/proc/self/fd/{}", descriptor), ignored);
    if (path.is_absolute()) lines += fmt::format("  in {} of {}\n", call, path.string());
  }
  return lines;
}

}  // namespace

void install_stack_report() {
  watched = ::pthread_self();
  asks = SIGRTMIN + 3;
  ::sem_init(&answered, 0, 0);
  // The first call loads a library, which no handler may.
  static_cast<void>(::backtrace(frames.data(), 1));
  struct sigaction action {};
  action.sa_handler = answer;
  action.sa_flags = SA_RESTART;
  ::sigaction(asks, &action, nullptr);
}

std::string describe_stack() {
  std::string lines = files_waited_for();
  bool has_answered = false;
  if (::pthread_kill(watched, asks) == 0) {
    for (int look = 0; look < kLooks && !has_answered; ++look) {
      std::this_thread::sleep_for(kPause);
      has_answered = ::sem_trywait(&answered) == 0;
    }
  }
  if (!has_answered) {
    return lines + "  its main thread does not answer: it is in the kernel\n";
  }
  for (int i = kOwnFrames; i < frame_count; ++i) {
    lines += fmt::format("  at {}\n", name_of(frames[static_cast<std::size_t>(i)]));
  }
  return lines;
}

}  // namespace hadal::launch
