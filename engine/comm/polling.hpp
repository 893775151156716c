#pragma once
// Waiting for another process without taking the core that it may need.

#include <algorithm>
#include <chrono>
#include <thread>

namespace hadal::engine {

// Calls `done` until it is true, with pauses that grow: the first polls cost no latency, a long
// wait costs 2 % of a core.
template <class Done>
void poll_until(Done done) {
  constexpr int kSpins = 200;
  constexpr std::chrono::microseconds kLongest(100);
  std::chrono::microseconds pause(1);
  for (int polls = 0; !done(); ++polls) {
    if (polls < kSpins) continue;
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongest);
  }
}

}  // namespace hadal::engine
