#include "engine/watchdog.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "engine/comm/polling.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kPlaceBytes = 96;
// A process that runs beats many times in this time, however busy its host is; less where the ranks
// have less patience.
constexpr std::int64_t kSilence = 3'000'000'000;
constexpr std::int64_t kLeastSilence = 500'000'000;
// What another host has to name a rank of its own, and a launcher to end the others.
constexpr std::int64_t kGrace = 4'000'000'000;

std::int64_t nanoseconds(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

double seconds(std::int64_t time) { return static_cast<double>(time) / 1e9; }

}  // namespace

// Of one rank; times by the host's clock (monotonic, the same for all its processes), 0: none yet.
struct alignas(128) Watchdog::Beat {
  std::atomic<std::int64_t> last;     // its watching thread was here
  std::atomic<std::int64_t> waiting;  // since when it waits for others; 0: it works
  std::atomic<std::int64_t> working;  // since when it does not
  std::atomic<char> place[kPlaceBytes];
};

Watchdog::Watchdog(Communicator& comm, Options options)
    : options_(std::move(options)),
      memory_(comm,
              [](const HostMemory::Hosts& hosts) {
                std::size_t most = 0;
                for (const std::vector<int>& ranks : hosts) most = std::max(most, ranks.size());
                return HostMemory::Sizes{most * sizeof(Beat), 0};
              }),
      number_(comm.rank()),
      host_(comm.host()),
      thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  ends_ = true;
  thread_.join();
}

Watchdog::Beat& Watchdog::beat(int rank) const {
  return reinterpret_cast<Beat*>(memory_.common().data())[rank];
}

void Watchdog::watch() {
  const std::int64_t pause = std::clamp(nanoseconds(options_.timeout) / 16,
                                        std::int64_t{20'000'000}, std::int64_t{500'000'000});
  while (!ends_) {
    const std::int64_t now = steady_nanoseconds();
    Beat& own = beat(memory_.rank());
    const std::int64_t waiting = waiting_since.load();
    if (waiting != 0 || own.working == 0) own.working = now;
    own.waiting = waiting;
    const std::string place = options_.place().substr(0, kPlaceBytes - 1);
    for (std::size_t i = 0; i <= place.size(); ++i) own.place[i] = place.c_str()[i];
    own.last = now;
    if (waiting != 0 && now - waiting > nanoseconds(options_.timeout) && look(now)) return;
    std::this_thread::sleep_for(std::chrono::nanoseconds(pause));
  }
}

// True where it has been told.
bool Watchdog::look(std::int64_t now) {
  const std::vector<int>& ranks = memory_.hosts()[static_cast<std::size_t>(memory_.host())];
  const std::int64_t timeout = nanoseconds(options_.timeout);
  const std::int64_t waited = now - beat(memory_.rank()).waiting;
  std::vector<std::string> missing;
  bool first = true;  // of those that could tell
  for (int r = 0; r < memory_.size(); ++r) {
    const Beat& theirs = beat(r);
    const std::int64_t last = theirs.last, since = theirs.waiting;
    const bool silent = now - last > std::clamp(timeout / 2, kLeastSilence, kSilence);
    if (!silent && since != 0) {
      // Who came here a moment ago may be what all waited for.
      if (now - since < timeout / 2) return false;
      if (r < memory_.rank() && now - since > timeout) first = false;
      continue;
    }
    std::string place;
    for (const std::atomic<char>& c : theirs.place) {
      if (c == 0) break;
      place += c;
    }
    missing.push_back(
        silent ? fmt::format("rank {} on {}, whose process has stopped or gone {:.0f} s ago ({})",
                             ranks[static_cast<std::size_t>(r)], host_, seconds(now - last), place)
               : fmt::format("rank {} on {}, which has been busy for {:.0f} s ({})",
                             ranks[static_cast<std::size_t>(r)], host_,
                             seconds(now - theirs.working), place));
  }
  if (!first) {
    if (waited < timeout + 2 * kGrace) return false;
    options_.follow();
    return true;
  }
  if (missing.empty()) {
    // Another host's ranks name theirs.
    if (waited < timeout + kGrace) return false;
    missing.push_back(fmt::format("a rank of another host ({} are all here on {})",
                                  ranks.size() == 1 ? "this one and its peers" : "its ranks",
                                  host_));
  }
  options_.stuck(fmt::format("waited {:.0f} s for {}", seconds(waited), fmt::join(missing, "; ")));
  return true;
}

}  // namespace hadal::engine
