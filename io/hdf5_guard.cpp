#include "io/hdf5_guard.hpp"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>

#include "io/error.hpp"

namespace hadal::io {
namespace {

// Processor time of this thread without one read: no file takes the library so long.
constexpr time_t kStuckSeconds = 20;
constexpr std::size_t kStackBytes = 64 << 10;

constexpr int kCrashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr int kStuck = SIGXCPU;
struct sigaction former_actions[NSIG];

// Read by the handler: no object with a constructor.
thread_local const char* guarded = nullptr;

void say(const char* text) {
  // Nothing can be done where even this fails.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text, std::strlen(text));
}

// Only calls that are safe in a handler (signal-safety(7)).
void handle(int signal) {
  if (guarded != nullptr) {
    say("hadal: data error: ");
    say(guarded);
    say(signal == kStuck
            ? ": a library reads it without an end; the file is damaged, copy it again or "
              "leave it out\n"
            : ": a library that reads it crashes; the file is damaged, copy it again or leave it "
              "out\n");
    ::_exit(Error(ErrorKind::data, "").exit_code());
  }
  // Somebody else's: as if this handler were not there.
  ::sigaction(signal, &former_actions[signal], nullptr);
  ::raise(signal);
}

void install_handlers() {
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (const int signal : kCrashes) ::sigaction(signal, &action, &former_actions[signal]);
  ::sigaction(kStuck, &action, &former_actions[kStuck]);
}

// A thread's own stack for the handler, where the library has used up the other, and its timer.
class ThreadWatch {
 public:
  ThreadWatch() : stack_(std::make_unique<std::byte[]>(kStackBytes)) {
    stack_t stack{};
    stack.ss_sp = stack_.get();
    stack.ss_size = kStackBytes;
    ::sigaltstack(&stack, &former_);
    struct sigevent event {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kStuck;
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    has_timer_ = ::timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer_) == 0;
  }
  ~ThreadWatch() {
    if (has_timer_) ::timer_delete(timer_);
    ::sigaltstack(&former_, nullptr);
  }
  ThreadWatch(const ThreadWatch&) = delete;
  ThreadWatch& operator=(const ThreadWatch&) = delete;

  void start(time_t seconds) const {
    if (!has_timer_) return;
    const struct itimerspec when {
      .it_interval = {}, .it_value = {.tv_sec = seconds, .tv_nsec = 0 }
    };
    ::timer_settime(timer_, 0, &when, nullptr);
  }

 private:
  std::unique_ptr<std::byte[]> stack_;
  stack_t former_{};
  timer_t timer_{};
  bool has_timer_ = false;
};

const ThreadWatch& watch() {
  thread_local const ThreadWatch instance;
  return instance;
}

}  // namespace

Hdf5Guard::Hdf5Guard(const char* file) : outermost_(guarded == nullptr) {
  if (!outermost_) return;
  static const bool installed = (install_handlers(), true);
  static_cast<void>(installed);
  watch().start(kStuckSeconds);
  guarded = file;
}

Hdf5Guard::~Hdf5Guard() {
  if (!outermost_) return;
  guarded = nullptr;
  watch().start(0);
}

void note_hdf5_progress() {
  if (guarded != nullptr) watch().start(kStuckSeconds);
}

}  // namespace hadal::io
