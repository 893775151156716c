#include "engine/wishes.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace hadal::engine {

std::string name_of(StopReason reason) {
  switch (reason) {
    case StopReason::none:
      return "none";
    case StopReason::usr1:
      return "usr1";
    case StopReason::time:
      return "time";
    case StopReason::term:
      return "term";
    case StopReason::usr2:
      return "usr2";
    case StopReason::stop_file:
      return "stop";
  }
  return "none";
}

StopReason agree_on_stop(Communicator& comm, StopReason mine) {
  std::vector<StopReason> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return *std::max_element(all.begin(), all.end());
}

Meetings::Agreed Meetings::meet(bool failed, bool done) {
  // As often as a wish shall wait at most; more often costs what it is worth.
  constexpr std::chrono::milliseconds kPause(500);
  struct State {
    std::int32_t failed = 0;
    std::int32_t done = 0;
    std::int32_t early = 0;  // this meeting came sooner than need be
    StopReason stop = StopReason::none;
  };
  const auto now = std::chrono::steady_clock::now();
  const State mine{.failed = failed ? 1 : 0,
                   .done = done ? 1 : 0,
                   .early = now - std::exchange(since_last_, now) < kPause ? 1 : 0,
                   .stop = ask_stop_ ? ask_stop_() : StopReason::none};
  std::vector<State> all(static_cast<std::size_t>(comm_.size()));
  comm_.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  Agreed agreed{.all_done = true};
  bool all_early = true;
  for (const State& state : all) {
    agreed.any_failed = agreed.any_failed || state.failed != 0;
    agreed.all_done = agreed.all_done && state.done != 0;
    agreed.stop = std::max(agreed.stop, state.stop);
    all_early = all_early && state.early != 0;
  }
  if (all_early) items_ *= 2;
  return agreed;
}

}  // namespace hadal::engine
