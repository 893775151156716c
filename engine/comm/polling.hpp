#pragma once
// Waiting for another process without taking the core that it may need.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace hadal::engine {

inline std::int64_t steady_nanoseconds() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// Since when this process has been waiting for others, by steady_nanoseconds(), for whoever watches
// over it; 0: it does not. One thread of a process talks to others.
inline std::atomic<std::int64_t> waiting_since = 0;

// For as long as a sleep would take at least, a waiter only offers the core to others.
inline constexpr std::chrono::microseconds kAwake(50);

// Calls `done` until it is true. At first (`awake`) it only offers the core to others between two
// polls; then it sleeps, longer and longer: a long wait costs 2 % of a core.
template <class Done>
void poll_until(Done done, std::chrono::microseconds awake = kAwake) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kLongest(100);
  const Clock::time_point start = Clock::now();
  std::chrono::microseconds pause(1);
  struct Mark {
    bool is_set = false;
    ~Mark() {
      if (is_set) waiting_since = 0;
    }
  } mark;
  while (!done()) {
    if (Clock::now() - start < awake) {
      std::this_thread::yield();
      continue;
    }
    if (!mark.is_set) waiting_since = steady_nanoseconds();
    mark.is_set = true;
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongest);
  }
}

}  // namespace hadal::engine
