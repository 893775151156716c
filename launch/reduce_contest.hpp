#pragma once
// What "hadal bench reduce" lets run in turn: ways to add up the gradients of all ranks, in the
// memory of a real step without a model.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/arena.hpp"
#include "engine/comm/communicator.hpp"
#include "engine/device/device_communicator.hpp"
#include "engine/run_config.hpp"

namespace hadal::launch {

class ReduceContest {
 public:
  explicit ReduceContest(engine::Communicator& comm) : comm_(comm) {}
  virtual ~ReduceContest() = default;

  struct Contestant {
    std::string name;
    std::function<double()> run;  // collective; seconds of the slowest rank
  };
  virtual std::vector<Contestant> contestants() = 0;

  // Collective. Elements of sums that were not what they must be, on all ranks.
  std::int64_t wrong();

 protected:
  engine::Communicator& comm() { return comm_; }
  int rank() const { return comm_.rank(); }
  int ranks() const { return comm_.size(); }

  // Whole numbers, so that any order of additions gives one exact sum.
  static void fill_gradient(std::span<float> values, std::int64_t micro_batch);
  // Looks at a slice of what `gradients` of them add up to, as far as there are parameters.
  void count_wrong(std::span<const float> sum, const engine::ArenaSlice& slice,
                   std::int64_t parameters, std::int64_t gradients);
  double timed(const std::function<void()>& body);

 private:
  engine::Communicator& comm_;
  std::int64_t wrong_ = 0;
};

// Every worker of every rank has a gradient. With options, the parameters are updated too.
// Collective; `comm` must outlive it.
std::unique_ptr<ReduceContest> host_reduce_contest(engine::Communicator& comm,
                                                   std::int64_t elements, int workers,
                                                   const engine::OptimizerOptions* options);

// Every rank has a gradient on its device. Collective; all must outlive it.
std::unique_ptr<ReduceContest> device_reduce_contest(engine::Communicator& comm,
                                                     engine::Device& device,
                                                     engine::DeviceCommunicator& messages,
                                                     std::int64_t elements);

}  // namespace hadal::launch
