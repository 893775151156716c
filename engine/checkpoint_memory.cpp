#include "engine/checkpoint_memory.hpp"

#include <algorithm>

namespace hadal::engine {
namespace {

// Blocks of a window: enough to write some while others are put together.
constexpr std::int64_t kWindowBlocks = 64;

std::int64_t most_blocks(const CheckpointLayout& layout, const HostMemory::Hosts& hosts) {
  std::int64_t most = 0;
  for (std::size_t h = 0; h < hosts.size(); ++h) {
    most = std::max(most,
                    layout.blocks_of(static_cast<int>(h), static_cast<int>(hosts.size())).count());
  }
  return most;
}

}  // namespace

std::int64_t bytes_of(const CheckpointParts& parts) {
  std::int64_t sum = 0;
  for (const CheckpointPart& part : parts) sum += part.bytes;
  return sum;
}

CheckpointMemory::CheckpointMemory(Communicator& comm, const HostMemory& host_arena,
                                   const Model& model, TrainingState& state, Room room)
    : arena(host_arena),
      layout(model, state, comm.rank(), comm.size()),
      image(comm, [&](const HostMemory::Hosts& all) {
        const std::int64_t most = most_blocks(layout, all);
        return room == Room::whole ? most : std::min(most, kWindowBlocks);
      }) {
  const auto own_host = static_cast<std::size_t>(image.host().host());
  const int place = image.host().rank();
  blocks = blocks_of(own_host);
  for (const CheckpointPart& part : layout.common()) {
    const bool here = part.block >= blocks.begin && part.block < blocks.end;
    if (here && part.block % image.host().size() == place) local.push_back(part);
  }
  // Ranks speak with those of their place on other hosts.
  const auto delegate = [&](std::size_t host, int of_place) {
    const std::vector<int>& ranks = hosts()[host];
    return ranks[static_cast<std::size_t>(of_place) % ranks.size()];
  };
  for (std::size_t h = 0; h < hosts().size(); ++h) {
    for (std::size_t p = 0; p < hosts()[h].size(); ++p) {
      const int rank = hosts()[h][p];
      const bool goes_through = delegate(own_host, static_cast<int>(p)) == comm.rank();
      if (rank != comm.rank() && (h == own_host || !goes_through)) continue;
      const bool mine = rank == comm.rank();
      for (const CheckpointPart& part : layout.own(rank)) {
        const std::size_t to = host_of(part.block);
        if (mine && to == own_host) {
          local.push_back(part);
        } else if (mine) {
          add(outgoing, delegate(to, place), part);
        } else if (to == own_host) {
          add(incoming, rank, part);
        }
      }
    }
  }
}

void CheckpointMemory::add(std::vector<Route>& routes, int peer, const CheckpointPart& part) {
  auto route = std::find_if(routes.begin(), routes.end(),
                            [&](const Route& each) { return each.peer == peer; });
  if (route == routes.end()) route = routes.insert(route, {peer, {}});
  route->parts.push_back(part);
}

std::size_t CheckpointMemory::host_of(std::int64_t block) const {
  std::size_t host = 0;
  while (block >= blocks_of(host).end) ++host;
  return host;
}

bool CheckpointMemory::is_whole() const { return image.capacity() >= most_blocks(layout, hosts()); }

}  // namespace hadal::engine
