#pragma once
// What saving and loading share: the layout of a checkpoint, the memory in which a host has its
// part of it, and which bytes go from which rank to which host.

#include "engine/checkpoint_image.hpp"
#include "engine/checkpoint_layout.hpp"

namespace hadal::engine {

class CheckpointMemory {
 public:
  // Room for all that a host writes, so that training can go on; or for a small window of it.
  enum class Room { whole, window };

  // Collective. All must outlive it, and the state's memory stays where it is. `arena`: where the
  // parameters lie.
  CheckpointMemory(Communicator& comm, const HostMemory& arena, const Model& model,
                   TrainingState& state, Room room);

  // Parts that come from, or go to, a rank of another host.
  struct Route {
    int peer = 0;
    CheckpointParts parts;
  };

  const HostMemory& arena;
  CheckpointLayout layout;
  CheckpointImage image;
  Share blocks;           // that this host writes
  CheckpointParts local;  // of them, what this rank puts in
  // This rank's own parts in other hosts' blocks, and parts of theirs in this host's blocks, which
  // go through this rank.
  std::vector<Route> outgoing;
  std::vector<Route> incoming;

  const HostMemory::Hosts& hosts() const { return image.host().hosts(); }
  // The rank that writes for a host.
  int writer(std::size_t host) const { return hosts()[host].front(); }
  Share blocks_of(std::size_t host) const {
    return layout.blocks_of(static_cast<int>(host), static_cast<int>(hosts().size()));
  }
  // Whether the image holds all blocks of any host at once.
  bool is_whole() const;

 private:
  std::size_t host_of(std::int64_t block) const;
  static void add(std::vector<Route>& routes, int peer, const CheckpointPart& part);
};

// The bytes of parts, one after the other.
std::int64_t bytes_of(const CheckpointParts& parts);

}  // namespace hadal::engine
