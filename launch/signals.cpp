#include "launch/signals.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace hadal::launch {
namespace {

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free,
              "the handler may only touch lock-free atomics");

constexpr std::pair<int, const char*> kCrashes[] = {{SIGSEGV, "SIGSEGV"},
                                                    {SIGBUS, "SIGBUS"},
                                                    {SIGFPE, "SIGFPE"},
                                                    {SIGILL, "SIGILL"},
                                                    {SIGABRT, "SIGABRT"}};
std::string place_text;
std::atomic<const char*> place_phase{"start"};
std::atomic<std::int64_t> place_step{0};

// Only calls that are safe in a handler (signal-safety(7)).
class Line {
 public:
  Line& operator<<(const char* text) {
    while (*text != 0 && length_ < sizeof text_) text_[length_++] = *text++;
    return *this;
  }
  Line& operator<<(std::int64_t number) {
    char digits[24];
    std::size_t at = sizeof digits;
    digits[--at] = 0;
    do {
      digits[--at] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number > 0 && at > 0);
    return *this << digits + at;
  }
  void write() const {
    // Nothing can be done where even this fails.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text_, length_);
  }

 private:
  char text_[512];
  std::size_t length_ = 0;
};

void tell_crash(int signal) {
  const char* name = "a signal";
  for (const auto& [number, known] : kCrashes) {
    if (number == signal) name = known;
  }
  Line line;
  line << "hadal: bug: " << name << place_text.c_str() << place_phase.load() << ", after step "
       << place_step.load() << "); this is a defect of the program or of a library it uses\n";
  line.write();
  // The handler was for once: now as if there had been none.
  ::raise(signal);
}

void note(int signal) {
  using engine::StopReason;
  const StopReason reason = signal == SIGUSR1   ? StopReason::usr1
                            : signal == SIGUSR2 ? StopReason::usr2
                                                : StopReason::term;
  const int value = static_cast<int>(reason);
  if (value > requested.load()) requested.store(value);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM}) sigaction(signal, &action, nullptr);
  // A file size limit shows as a failed write with its errno, not as a death.
  std::signal(SIGXFSZ, SIG_IGN);
}

void ignore_terminate() { std::signal(SIGTERM, SIG_IGN); }

void install_crash_report(int rank, const std::string& host) {
  place_text = fmt::format(" (rank {} on {}, ", rank, host);
  // A stack of its own: the crash may be that the other has no room left.
  static std::array<std::byte, std::size_t{64} << 10> memory;
  stack_t stack{};
  stack.ss_sp = memory.data();
  stack.ss_size = memory.size();
  ::sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = tell_crash;
  action.sa_flags = SA_ONSTACK | SA_RESETHAND;
  for (const auto& [signal, name] : kCrashes) ::sigaction(signal, &action, nullptr);
}

void note_place(const char* phase, std::int64_t step) {
  place_phase.store(phase);
  place_step.store(step);
}

std::string noted_place() {
  return fmt::format("{}, after step {}", place_phase.load(), place_step.load());
}

engine::StopReason requested_stop() { return static_cast<engine::StopReason>(requested.load()); }

}  // namespace hadal::launch
