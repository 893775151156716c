#pragma once
// Finds out who does not come where the others wait, without a message that could wait too: the
// ranks of a host tell each other through memory that they share.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "engine/comm/host_memory.hpp"

namespace hadal::engine {

class Watchdog {
 public:
  // Collective. Watches from a thread of its own, beside the one that talks to other ranks.
  // `place` tells where this rank is, in a few words. `stuck` is called at most once, on the
  // watching thread, where this rank has waited for others for `timeout` seconds and is the one of
  // its host to tell so: with who did not come, in words. The rest of the host's ranks call
  // `follow` some seconds later, unless they were ended before.
  struct Options {
    double timeout = 0;
    std::function<std::string()> place;
    std::function<void(const std::string&)> stuck;
    std::function<void()> follow;
  };
  Watchdog(Communicator& comm, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Beat;

  Beat& beat(int rank) const;
  void watch();
  bool look(std::int64_t now);

  Options options_;
  HostMemory memory_;
  int number_ = 0;  // of this rank in the job
  std::string host_;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

}  // namespace hadal::engine
