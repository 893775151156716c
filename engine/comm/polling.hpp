#pragma once
// Waiting for another process without taking the core that it may need.

#include <algorithm>
#include <chrono>
#include <thread>

namespace hadal::engine {

// Calls `done` until it is true. For as long as a sleep would take at least, it only offers the
// core to others between two polls; then it sleeps, longer and longer: a long wait costs 2 % of a
// core.
template <class Done>
void poll_until(Done done) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kAwake(50);
  constexpr std::chrono::microseconds kLongest(100);
  const Clock::time_point start = Clock::now();
  std::chrono::microseconds pause(1);
  while (!done()) {
    if (Clock::now() - start < kAwake) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongest);
  }
}

}  // namespace hadal::engine
