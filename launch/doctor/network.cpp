#include "launch/doctor/network.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "engine/stopwatch.hpp"

namespace hadal::launch {
namespace {

constexpr std::size_t kMessage = 4 << 20;
constexpr int kMessages = 4;
constexpr int kPings = 8;
// A file's time decides which STOP is older, and the end of the allocation is a time of day.
constexpr double kSkew = 1.0;

// The first rank of each host, in rank order.
std::vector<int> leaders_of(engine::Communicator& comm) {
  const std::vector<std::string> hosts = engine::all_gather_text(comm, comm.host());
  std::vector<int> leaders;
  for (int rank = 0; rank < comm.size(); ++rank) {
    const auto at = hosts.begin() + rank;
    if (std::find(hosts.begin(), at, *at) == at) leaders.push_back(rank);
  }
  return leaders;
}

// Who plays whom in round `round` of a round robin of `count` players (even; the circle method).
int partner_of(int player, int round, int count) {
  const int rest = count - 1;
  if (player == count - 1) return round % rest;
  if (player == round % rest) return count - 1;
  return ((2 * round - player) % rest + rest) % rest;
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double swap(engine::Communicator& comm, int partner, double mine) {
  double theirs = 0;
  const engine::Outgoing out{partner, std::as_bytes(std::span(&mine, 1))};
  const engine::Incoming in{partner, std::as_writable_bytes(std::span(&theirs, 1))};
  comm.exchange(std::span(&out, 1), std::span(&in, 1));
  return theirs;
}

}  // namespace

std::vector<PairSpeed> measure_pairs(engine::Communicator& comm,
                                     const std::function<double(int)>& measure) {
  const std::vector<int> leaders = leaders_of(comm);
  const std::vector<std::string> hosts = engine::all_gather_text(comm, comm.host());
  const auto count = static_cast<int>(leaders.size());
  const int even = count + count % 2;
  const auto found = std::find(leaders.begin(), leaders.end(), comm.rank());
  const bool leads = found != leaders.end();
  const auto own = static_cast<int>(found - leaders.begin());
  std::vector<PairSpeed> pairs;
  for (int round = 0; round + 1 < even; ++round) {
    const int partner = leads ? partner_of(own, round, even) : count;
    const bool plays = partner < count;
    const int peer = plays ? leaders[static_cast<std::size_t>(partner)] : -1;
    comm.barrier();
    const double speed = measure(peer);
    struct Played {
      int partner;
      double speed;
    };
    const Played mine{peer, speed};
    std::vector<Played> all(static_cast<std::size_t>(comm.size()));
    comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
    for (int rank = 0; rank < comm.size(); ++rank) {
      const Played& one = all[static_cast<std::size_t>(rank)];
      if (one.partner > rank) {
        pairs.push_back({hosts[static_cast<std::size_t>(rank)],
                         hosts[static_cast<std::size_t>(one.partner)], one.speed});
      }
    }
  }
  return pairs;
}

std::vector<PairSpeed> measure_pairs(engine::Communicator& comm) {
  const std::vector<std::byte> sent(kMessage);
  std::vector<std::byte> received(kMessage);
  return measure_pairs(comm, [&](int partner) {
    if (partner < 0) return 0.0;
    const engine::Outgoing out{partner, sent};
    const engine::Incoming in{partner, received};
    // The first message finds the way.
    comm.exchange(std::span(&out, 1), std::span(&in, 1));
    const engine::Stopwatch watch;
    for (int i = 0; i < kMessages; ++i) comm.exchange(std::span(&out, 1), std::span(&in, 1));
    return static_cast<double>(kMessages * kMessage) / watch.seconds();
  });
}

Finding judge_pairs(const std::string& what, const std::vector<PairSpeed>& pairs) {
  if (pairs.empty()) return {Verdict::ok, what, "one host", ""};
  std::vector<double> speeds;
  for (const PairSpeed& pair : pairs) speeds.push_back(pair.bytes_per_second);
  const auto middle = speeds.begin() + std::ssize(speeds) / 2;
  std::nth_element(speeds.begin(), middle, speeds.end());
  const double usual = *middle;
  const auto slowest =
      std::min_element(pairs.begin(), pairs.end(), [](const PairSpeed& a, const PairSpeed& b) {
        return a.bytes_per_second < b.bytes_per_second;
      });
  const std::string text =
      fmt::format("{:.2f} GB/s each way between hosts, {:.2f} between {} and {}", usual / 1e9,
                  slowest->bytes_per_second / 1e9, slowest->first, slowest->second);
  if (slowest->bytes_per_second * 2 < usual) {
    return {Verdict::warn, what, text, "leave one of the two out, and tell whoever runs them"};
  }
  return {Verdict::ok, what, text, ""};
}

std::vector<std::pair<std::string, double>> measure_clocks(engine::Communicator& comm) {
  std::vector<std::pair<std::string, double>> clocks;
  for (const int leader : leaders_of(comm)) {
    if (leader == 0) continue;
    double skew = 0, shortest = HUGE_VAL;
    for (int ping = 0; ping < kPings; ++ping) {
      // The first rank learns the other's time, which lies between two of its own (RFC 5905, 8).
      if (comm.rank() == leader) {
        swap(comm, 0, 0);
        swap(comm, 0, wall_seconds());
      } else if (comm.rank() == 0) {
        swap(comm, leader, 0);
        const double before = wall_seconds();
        const double theirs = swap(comm, leader, 0);
        const double after = wall_seconds();
        if (after - before < shortest) {
          shortest = after - before;
          skew = theirs - (before + after) / 2;
        }
      }
    }
    comm.broadcast(std::as_writable_bytes(std::span(&skew, 1)), 0);
    clocks.emplace_back(engine::broadcast_text(comm, comm.host(), leader), skew);
  }
  return clocks;
}

Finding judge_clocks(const std::vector<std::pair<std::string, double>>& clocks) {
  if (clocks.empty()) return {Verdict::ok, "clocks", "one host", ""};
  const auto worst = std::max_element(
      clocks.begin(), clocks.end(),
      [](const auto& a, const auto& b) { return std::abs(a.second) < std::abs(b.second); });
  const std::string text =
      fmt::format("{:.3f} s apart at most ({})", std::abs(worst->second), worst->first);
  if (std::abs(worst->second) > kSkew) {
    return {Verdict::warn, "clocks", text, "have the hosts set their clocks (chrony, ntpd)"};
  }
  return {Verdict::ok, "clocks", text, ""};
}

}  // namespace hadal::launch
