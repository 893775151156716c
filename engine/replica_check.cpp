#include "engine/replica_check.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "io/error.hpp"
#include "io/hashing_file.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kHashedPiece = std::size_t{1} << 20;  // elements

struct Hashes {
  std::uint64_t parameters = 0;  // of this rank's pieces, joined by exclusive or
  std::uint64_t buffers = 0;
};

// Pieces count on from `first`.
std::uint64_t hash_pieces(std::span<const float> values, std::uint64_t first,
                          const HostMemory& host, ThreadTeam& team) {
  const std::size_t pieces = (values.size() + kHashedPiece - 1) / kHashedPiece;
  std::vector<std::uint64_t> hashes(pieces, 0);
  team.assist(0, static_cast<std::int64_t>(pieces), [&](std::int64_t piece) {
    const auto p = static_cast<std::size_t>(piece);
    if (p % static_cast<std::size_t>(host.size()) != static_cast<std::size_t>(host.rank())) return;
    const std::size_t begin = p * kHashedPiece;
    hashes[p] = io::hash_bytes(
        std::as_bytes(values.subspan(begin, std::min(kHashedPiece, values.size() - begin))),
        first + p);
  });
  std::uint64_t joined = 0;
  for (const std::uint64_t hash : hashes) joined ^= hash;
  return joined;
}

// The value that most have; the first of them where several are as common.
std::uint64_t most_common(const std::vector<std::uint64_t>& values) {
  return *std::max_element(values.begin(), values.end(), [&](std::uint64_t a, std::uint64_t b) {
    return std::count(values.begin(), values.end(), a) <
           std::count(values.begin(), values.end(), b);
  });
}

// Collective. `holders` are the ranks that hold one copy of the parameters together.
void compare(Communicator& comm, const HostMemory::Hosts& holders, const Hashes& mine,
             const std::string& when) {
  std::vector<Hashes> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  std::vector<std::uint64_t> parameters, buffers;
  for (const std::vector<int>& ranks : holders) {
    std::uint64_t joined = 0;
    for (const int rank : ranks) joined ^= all[static_cast<std::size_t>(rank)].parameters;
    parameters.push_back(joined);
  }
  for (const Hashes& hashes : all) buffers.push_back(hashes.buffers);
  const std::uint64_t right = most_common(parameters), right_buffers = most_common(buffers);
  std::vector<std::string> wrong;
  for (std::size_t h = 0; h < parameters.size(); ++h) {
    if (parameters[h] == right) continue;
    wrong.push_back(fmt::format("the parameters of rank{} {}", holders[h].size() > 1 ? "s" : "",
                                fmt::join(holders[h], ", ")));
  }
  for (std::size_t r = 0; r < buffers.size(); ++r) {
    if (buffers[r] != right_buffers) wrong.push_back(fmt::format("the buffers of rank {}", r));
  }
  if (wrong.empty()) return;
  throw io::Error(
      io::ErrorKind::numeric,
      fmt::format(
          "{} differ from the others' {}: a fault of that host's memory, or a defect of this "
          "program. Start again, without that host: the run goes on from its last checkpoint",
          fmt::join(wrong, " and "), when));
}

}  // namespace

void check_replicas(Communicator& comm, const HostMemory& host, const Weights& weights,
                    ThreadTeam& team, const std::string& when) {
  constexpr std::uint64_t kFrozen = std::uint64_t{1} << 32;
  compare(comm, host.hosts(),
          {hash_pieces(weights.parameters, 0, host, team) ^
               hash_pieces(weights.frozen, kFrozen, host, team),
           io::hash_bytes(weights.buffers.bytes)},
          when);
}

void check_copies(Communicator& comm, std::uint64_t parameters, const Weights& weights,
                  const std::string& when) {
  HostMemory::Hosts alone;
  for (int rank = 0; rank < comm.size(); ++rank) alone.push_back({rank});
  compare(comm, alone, {parameters, io::hash_bytes(weights.buffers.bytes)}, when);
}

}  // namespace hadal::engine
