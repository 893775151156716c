#pragma once
// Whether gradients are reduced beside backward or after it. The bits are the same; what is faster
// depends on cores and network (on few cores the messages take what backward needs), so the first
// steps try both in turn, and rank 0's clock decides for all.

#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/run_config.hpp"

namespace hadal::engine {

class OverlapChoice {
 public:
  // `possible` is the same on all ranks.
  OverlapChoice(Communicator& comm, Overlap wish, bool possible);

  // For the coming step.
  bool on() const { return on_; }

  // Collective, after each step: how long it took here.
  void record(double seconds);

 private:
  Communicator& comm_;
  bool trying_;
  bool on_;
  int steps_ = 0;
  std::vector<double> with_;
  std::vector<double> without_;
};

}  // namespace hadal::engine
