#include "launch/signals.hpp"

#include <atomic>
#include <csignal>

namespace hadal::launch {
namespace {

std::atomic<int> requested{0};
static_assert(std::atomic<int>::is_always_lock_free,
              "the handler may only touch lock-free atomics");

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

engine::StopReason requested_stop() { return static_cast<engine::StopReason>(requested.load()); }

}  // namespace hadal::launch
