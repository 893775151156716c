#pragma once
// Finds out who does not come where the others wait, without a message that could wait too: the
// ranks of a host tell each other through memory that they share, hosts by datagrams.

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "engine/comm/host_memory.hpp"
#include "engine/comm/pulse.hpp"

namespace hadal::engine {

class Watchdog {
 public:
  // Collective. Watches from a thread of its own, beside the one that talks to other ranks.
  // `place` tells where this rank is, in a few words. `stuck` is called at most once, on the
  // watching thread, where this rank has waited for others for `timeout` seconds, or a process of
  // its host has gone, and it is the one of its host to tell so: with who did not come, in words.
  // The rest of the host's ranks call `follow` some seconds later, unless they were ended before.
  // `held_up` is called once on a rank that has been busy for most of that time while others wait:
  // before they give it up.
  struct Options {
    double timeout = 0;
    std::function<std::string()> place;
    std::function<void(const std::string&)> stuck;
    std::function<void()> follow;
    std::function<void(double seconds)> held_up;
  };
  Watchdog(Communicator& comm, Options options);
  ~Watchdog();
  // Seconds.
  void set_timeout(double timeout) { timeout_ = static_cast<std::int64_t>(timeout * 1e9); }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Beat;
  struct State;
  // What another host has told last.
  struct Report {
    std::int64_t when = 0;
    std::vector<State> ranks;
  };

  Beat& beat(int place) const;
  // Nanoseconds after which a process, and between which a host, is thought to show itself.
  std::int64_t silence() const;
  std::int64_t pulse() const;
  std::atomic<std::int64_t>& waited_elsewhere() const;
  std::vector<State> own_host(std::int64_t now) const;
  std::vector<State> other_hosts(std::int64_t now) const;
  void exchange(std::int64_t now);
  std::string lost_ranks(std::int64_t now) const;
  void give_up(const std::string& what);
  void note(std::int64_t now);
  void watch();
  bool look(std::int64_t now);
  std::string describe(const State& state) const;

  Options options_;
  std::atomic<std::int64_t> timeout_;  // nanoseconds
  HostMemory memory_;
  Pulse pulse_;
  std::vector<std::string> names_;  // of hosts, by rank
  std::map<int, Report> reports_;   // by host
  std::int64_t next_pulse_ = 0;
  bool told_held_up_ = false;
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

}  // namespace hadal::engine
