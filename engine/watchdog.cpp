#include "engine/watchdog.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "engine/comm/polling.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kPlaceBytes = 96;
// A process that runs beats many times in this time, however busy its host is; less where the ranks
// have less patience.
constexpr std::int64_t kSilence = 3'000'000'000;
constexpr std::int64_t kLeastSilence = 500'000'000;
// Without so many datagrams in a row a host counts as silent: one may get lost.
constexpr int kLostPulses = 5;
constexpr std::int64_t kLongestPulse = 1'000'000'000;
// A launcher leaves the others a second or so once one of them has gone.
constexpr std::int64_t kLongestPause = 200'000'000;
// What another host has to name a rank of its own, and a launcher to end the others.
constexpr std::int64_t kGrace = 4'000'000'000;
// Of the ranks' patience, after which the one they wait for says what it does.
constexpr double kHeldUp = 0.7;

std::int64_t nanoseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

double seconds(std::int64_t time) { return static_cast<double>(time) / 1e9; }

}  // namespace

// Whether a rank still watches: it has come to its end or is about to give others up; it has told
// so.
enum Left : std::int64_t { kWatches, kLeaves, kGaveUp };

// Of one rank; times by the host's clock (monotonic, the same for all its processes), 0: none yet.
struct alignas(128) Watchdog::Beat {
  std::atomic<std::int64_t> last;     // its watching thread was here
  std::atomic<std::int64_t> waiting;  // since when it waits for others; 0: it works
  std::atomic<std::int64_t> working;  // since when it does not
  std::atomic<std::int64_t> process;  // its number
  std::atomic<std::int64_t> left;     // one of Left
  std::atomic<char> place[kPlaceBytes];
};

// The same as it is told to others: spans, for their clocks are their own.
struct Watchdog::State {
  std::int32_t rank = 0;
  std::int32_t host_is_silent = 0;
  std::int64_t silent = 0;  // without a sign of life; 0: it beats
  std::int64_t waited = 0;  // 0: it works
  std::int64_t busy = 0;
  std::array<char, kPlaceBytes> place{};
};

Watchdog::Watchdog(Communicator& comm, Options options)
    : options_(std::move(options)),
      timeout_(nanoseconds(options_.timeout)),
      memory_(comm,
              [](const HostMemory::Hosts& hosts) {
                std::size_t most = 0;
                for (const std::vector<int>& ranks : hosts) most = std::max(most, ranks.size());
                return HostMemory::Sizes{(most + 1) * sizeof(Beat), 0};
              }),
      pulse_(comm, memory_),
      names_(all_gather_text(comm, comm.host())),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  ends_ = true;
  thread_.join();
  beat(memory_.rank()).left = kLeaves;
}

Watchdog::Beat& Watchdog::beat(int place) const {
  return reinterpret_cast<Beat*>(memory_.common().data())[place];
}

// How long a rank of another host has waited at least, for the ranks of this one; behind the beats.
std::atomic<std::int64_t>& Watchdog::waited_elsewhere() const {
  return beat(memory_.size()).waiting;
}

void Watchdog::watch() {
  while (!ends_) {
    const std::int64_t timeout = timeout_;
    const std::int64_t pause = std::clamp(timeout / 16, std::int64_t{20'000'000}, kLongestPause);
    const std::int64_t now = steady_nanoseconds();
    note(now);
    exchange(now);
    const std::string lost = lost_ranks(now);
    // Asked after who is lost, for a rank that follows goes without a word. Also where this process
    // was stopped for long and goes on: it is too late.
    for (int r = 0; r < memory_.size(); ++r) {
      if (beat(r).left != kGaveUp) continue;
      options_.follow();
      return;
    }
    if (!lost.empty()) {
      give_up("has lost " + lost);
      return;
    }
    const std::int64_t waiting = beat(memory_.rank()).waiting;
    if (waiting != 0 && now - waiting > timeout && look(now)) return;
    std::this_thread::sleep_for(std::chrono::nanoseconds(pause));
  }
}

void Watchdog::give_up(const std::string& what) {
  std::atomic<std::int64_t>& left = beat(memory_.rank()).left;
  left = kLeaves;
  options_.stuck(what);
  left = kGaveUp;
  options_.follow();
}

// Ranks of this host whose processes are gone, though they have not come to their end, in words; ""
// where another rank of it is the one to tell. A launcher ends the others soon; as long as they
// live they know who was first.
std::string Watchdog::lost_ranks(std::int64_t now) const {
  std::vector<std::string> lost;
  bool first = true;
  const std::vector<State> states = own_host(now);
  for (int r = 0; r < memory_.size(); ++r) {
    const Beat& theirs = beat(r);
    if (theirs.last == 0 || theirs.left != kWatches) continue;
    const bool is_gone = ::kill(static_cast<pid_t>(theirs.process), 0) != 0 && errno == ESRCH;
    if (is_gone) {
      const State& state = states[static_cast<std::size_t>(r)];
      lost.push_back(fmt::format("rank {} on {}, whose process is gone without a word ({})",
                                 state.rank, names_[static_cast<std::size_t>(state.rank)],
                                 state.place.data()));
    } else if (r < memory_.rank()) {
      first = false;
    }
  }
  return first ? fmt::format("{}", fmt::join(lost, "; ")) : std::string();
}

// This rank's beat; and what it does, where others have nearly lost their patience with it.
void Watchdog::note(std::int64_t now) {
  Beat& own = beat(memory_.rank());
  const std::int64_t waiting = waiting_since.load();
  // Stopped and continued, it was not busy either.
  const bool was_silent = now - own.last > silence();
  if (waiting != 0 || own.working == 0 || was_silent) own.working = now;
  own.waiting = waiting;
  const std::string place = options_.place().substr(0, kPlaceBytes - 1);
  for (std::size_t i = 0; i <= place.size(); ++i) own.place[i] = place.c_str()[i];
  own.process = ::getpid();
  own.last = now;
  const std::int64_t busy = now - own.working;
  const auto patience = static_cast<std::int64_t>(kHeldUp * static_cast<double>(timeout_.load()));
  if (waiting != 0 || busy < patience || told_held_up_ || !options_.held_up) return;
  std::int64_t longest = waited_elsewhere();
  for (const State& state : own_host(now)) longest = std::max(longest, state.waited);
  if (longest < patience) return;
  told_held_up_ = true;
  options_.held_up(seconds(busy));
}

std::int64_t Watchdog::silence() const {
  return std::clamp(timeout_.load() / 2, kLeastSilence, kSilence);
}

std::int64_t Watchdog::pulse() const { return std::min(timeout_.load() / 8, kLongestPulse); }

std::vector<Watchdog::State> Watchdog::own_host(std::int64_t now) const {
  std::vector<State> states;
  for (int r = 0; r < memory_.size(); ++r) {
    const Beat& theirs = beat(r);
    const std::int64_t last = theirs.last, since = theirs.waiting;
    State& state = states.emplace_back();
    state.rank =
        memory_.hosts()[static_cast<std::size_t>(memory_.host())][static_cast<std::size_t>(r)];
    if (now - last > silence()) {
      state.silent = now - last;
    } else if (since != 0) {
      state.waited = std::max<std::int64_t>(now - since, 1);
    }
    state.busy = now - theirs.working;
    for (std::size_t i = 0; i < kPlaceBytes; ++i) state.place[i] = theirs.place[i];
  }
  return states;
}

// As far as they have told this one: all of them the first host, that one the others.
std::vector<Watchdog::State> Watchdog::other_hosts(std::int64_t now) const {
  std::vector<State> states;
  for (const auto& [host, report] : reports_) {
    const std::int64_t age = now - report.when;
    for (State state : report.ranks) {
      if (age > kLostPulses * pulse()) {
        state.host_is_silent = 1;
        state.silent = age;
      } else if (state.waited != 0) {
        state.waited += age;
      }
      states.push_back(state);
    }
  }
  return states;
}

void Watchdog::exchange(std::int64_t now) {
  if (memory_.rank() != 0 || memory_.hosts().size() == 1) return;
  pulse_.receive([&](int host, std::span<const std::byte> bytes) {
    Report& report = reports_[host];
    report.when = now;
    report.ranks.resize(bytes.size() / sizeof(State));
    std::memcpy(report.ranks.data(), bytes.data(), report.ranks.size() * sizeof(State));
  });
  std::int64_t longest = 0;
  for (const State& state : other_hosts(now)) {
    if (state.silent == 0) longest = std::max(longest, state.waited);
  }
  waited_elsewhere() = longest;
  if (now < next_pulse_) return;
  next_pulse_ = now + pulse();
  const std::vector<State> own = own_host(now);
  pulse_.send(std::as_bytes(std::span(own)));
}

std::string Watchdog::describe(const State& state) const {
  const std::string who =
      fmt::format("rank {} on {}", state.rank, names_[static_cast<std::size_t>(state.rank)]);
  const char* const place = state.place.data();
  if (state.host_is_silent != 0) {
    return fmt::format("{}, a host without a sign of life for {:.0f} s ({})", who,
                       seconds(state.silent), place);
  }
  if (state.silent != 0) {
    return fmt::format("{}, whose process has stopped or gone {:.0f} s ago ({})", who,
                       seconds(state.silent), place);
  }
  return fmt::format("{}, which has been busy for {:.0f} s ({})", who, seconds(state.busy), place);
}

// True where it has been told.
bool Watchdog::look(std::int64_t now) {
  const std::int64_t timeout = timeout_.load();
  std::vector<State> states = own_host(now);
  const std::int64_t waited = states[static_cast<std::size_t>(memory_.rank())].waited;
  // Of those of this host that could tell, the first one does.
  bool first = true;
  for (int r = 0; r < memory_.size(); ++r) {
    State& state = states[static_cast<std::size_t>(r)];
    if (r < memory_.rank() && state.waited > timeout) first = false;
    if (beat(r).left == kWatches) continue;
    first = false;
    state.waited = timeout;
    state.silent = 0;
  }
  const std::vector<State> others = other_hosts(now);
  states.insert(states.end(), others.begin(), others.end());
  std::vector<std::string> silent, busy;
  for (const State& state : states) {
    if (state.silent != 0) {
      silent.push_back(describe(state));
    } else if (state.waited == 0) {
      busy.push_back(describe(state));
    } else if (state.waited < timeout / 2) {
      // Who came here a moment ago may be what all waited for.
      return false;
    }
  }
  // Whoever still runs may wait for one that does not.
  std::vector<std::string>& missing = silent.empty() ? busy : silent;
  if (!first) {
    if (waited < timeout + 2 * kGrace) return false;
    options_.follow();
    return true;
  }
  if (missing.empty()) {
    // Another host's ranks name theirs, or the first host all.
    if (waited < timeout + kGrace) return false;
    missing.push_back("a rank of another host, from which nothing is known here");
  }
  give_up(fmt::format("waited {:.0f} s for {}", seconds(waited), fmt::join(missing, "; ")));
  return true;
}

}  // namespace hadal::engine
