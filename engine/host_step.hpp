#pragma once
// A step on the host's cores: micro-batches on threads, gradients in memory that the ranks of a
// host share, sums between hosts while backward goes on.

#include <optional>

#include "engine/overlap_choice.hpp"
#include "engine/reducer.hpp"
#include "engine/session.hpp"
#include "engine/step_runner.hpp"

namespace hadal::engine {

class HostStep : public StepRunner {
 public:
  // All must outlive it; `shares[r]` are the micro-batches of rank r.
  HostStep(const RunConfig& config, Communicator& comm, Session& session,
           std::vector<Share> shares);

  void begin(const Leaves& leaves, std::vector<MicroBatchJob> jobs) override;
  Computed finish() override;
  std::vector<double> reduce() override;
  void update(double lr, std::int64_t number, float grad_scale) override;
  void swap_average() override;
  void check_replicas(const std::string& when) override;
  void record(double seconds) override { overlap_.record(seconds); }
  double take_wait_seconds() override { return reducer_.take_wait_seconds(); }
  std::int64_t take_sent_bytes() override { return reducer_.take_sent_bytes(); }

 private:
  void round_parameters();
  void compute(Worker& worker, std::size_t number);

  Communicator& comm_;
  HostMemory& host_;
  WorkerPool& pool_;
  const Model& model_;
  GradientPool& memory_;
  TrainingState& state_;
  const PartRounding* rounding_;
  bool fast_;
  Share share_;
  Reducer reducer_;
  OverlapChoice overlap_;

  // Of the step.
  const Leaves* leaves_ = nullptr;
  std::vector<MicroBatchJob> jobs_;
  std::vector<float> losses_;
  std::optional<StepGradients> gradients_;
  std::optional<CanonicalFold<BufferSum>> buffers_;
  std::optional<ThreadTeam::Running> work_;
  bool overlaps_ = false;
  std::span<const float> gradient_;
};

}  // namespace hadal::engine
