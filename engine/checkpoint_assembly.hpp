#pragma once
// How the blocks that a host writes come together in its memory: from the state of its ranks, and
// in messages from those of other hosts. All at once, beside training; or a window after the other.

#include <memory>
#include <optional>
#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/checkpoint_memory.hpp"
#include "engine/thread_team.hpp"

namespace hadal::engine {

class CheckpointAssembly {
 public:
  // All must outlive it. `copiers` threads copy.
  CheckpointAssembly(Communicator& comm, CheckpointMemory& memory, int copiers);

  // Collective. Begins to put the state as it is now in its places, where the image has room for
  // all of it.
  void begin();

  // Waits until this rank's part of the state is copied, and sends what goes to other hosts. Before
  // any of the state changes every rank must have come back from here.
  void copy();

  // Whether all that goes through this rank is in its place. Moves messages on.
  bool done();

  // Collective. Where the image is smaller: puts all of it in, window by window, each when the
  // writer has released the places of one before.
  void fill_by_windows();

  // What the last copy took.
  double seconds() const { return seconds_; }

 private:
  void copy_part(const CheckpointPart& part);
  void start_exchange(Share window);
  void land();

  Communicator& comm_;
  CheckpointMemory& memory_;
  std::int64_t begun_ = 0;
  bool exchanged_ = true;  // all messages are under way or through
  std::vector<AlignedBuffer> sent_;
  std::vector<AlignedBuffer> received_;
  Share window_;  // that they are of
  std::unique_ptr<Exchange> exchange_;
  double seconds_ = 0;
  // Its threads end before what they use.
  ThreadTeam copiers_{1};
  std::optional<ThreadTeam::Running> copying_;
};

}  // namespace hadal::engine
