#pragma once
// One optimizer step after the other: batches, forward and backward of this rank's micro-batches,
// the canonical reduction, one verdict of all ranks, the update. Nothing is decided by a rank
// alone: what can differ between ranks travels in a control record that is joined with every step.

#include <memory>
#include <optional>

#include "engine/schedule.hpp"
#include "engine/session.hpp"
#include "engine/step_runner.hpp"
#include "engine/training_state.hpp"
#include "engine/wishes.hpp"
#include "engine/worker_pool.hpp"
#include "io/error.hpp"
#include "io/loader.hpp"

namespace hadal::engine {

// What a rank does before it meets the others in a step, in seconds.
struct RankTimes {
  float data = 0;     // waiting for samples
  float compute = 0;  // forward and backward, for each round of its workers
  float save = 0;     // for a checkpoint
};

struct StepReport {
  std::int64_t step = 0;  // the step just done, counted from 1
  float loss = 0;
  double lr = 0;
  double grad_norm = 0;
  bool skipped = false;
  bool overflowed = false;       // skipped for a gradient that did not fit into float16
  double loss_scale = 1;         // of this step
  std::int64_t bad_samples = 0;  // left out of this step, on all ranks
  double seconds = 0;
  double data_wait_seconds = 0;  // of this rank
  double comm_wait_seconds = 0;  // of this rank, in exchanges
  double compute_seconds = 0;    // of this rank, forward and backward of its micro-batches
  double reduce_seconds = 0;     // from then on: waiting for other ranks, sums, norm
  std::int64_t sent_bytes = 0;   // by this rank to other hosts: gradients and parameters
  // By this rank's readers since the last step, which are some steps ahead.
  io::RowFetcher::Counts data;
  double update_seconds = 0;  // of the owned slices, until all parameters are there
  double save_seconds = 0;    // of this rank's main thread, for checkpoints, since the last step
  Wishes agreed;
  std::vector<RankTimes> ranks;  // of all
};

class Trainer {
 public:
  // All references must outlive the trainer. Starts loading at the session's progress.
  Trainer(const RunConfig& config, const TrainingPlan& plan, Communicator& comm, Session& session,
          const io::DataIndex& index);

  // Collective. Does step state.progress.step + 1 and advances the progress. `ask` is called when
  // this rank has computed its gradient; nothing of the state changes before all ranks have come
  // back from it. Throws, on all ranks the same: data errors of any rank, a numeric error that
  // names micro-batch and samples.
  StepReport step(const std::function<Wishes()>& ask);

  // Collective. Throws where a host's or a rank's copy of the model has other bits; step() does it
  // now and then. Also before a state is saved.
  void check_replicas();

  // Collective. Exchanges the parameters with their moving average, where there is one: before an
  // evaluation or the writing of the model, and again after it.
  void swap_average();

  // Collective over the host. Brings the host's copy of the parameters, or of all that a checkpoint
  // holds, up to date: whoever reads them calls it first.
  void parameters_to_host() { runner_->parameters_to_host(); }
  void state_to_host() { runner_->state_to_host(); }

 private:
  struct Control;

  std::vector<io::Batch> load(std::int64_t step);
  void fetch_next();
  Control exchange(const Wishes& mine, const std::vector<float>& losses, const RankTimes& times,
                   const std::optional<io::Error>& failure);
  std::vector<MicroBatchJob> jobs(const Leaves& leaves,
                                  const std::vector<double>& step_weights) const;
  double norm_of(const std::vector<double>& owned_squares);
  void update(double norm, double lr);
  [[noreturn]] void fail_not_finite(const std::vector<float>& losses) const;

  const RunConfig& config_;
  const TrainingPlan& plan_;
  Communicator& comm_;
  WorkerPool& pool_;
  const Objective& objective_;
  const Model& model_;
  const io::DataIndex& index_;
  TrainingState& state_;
  std::vector<Share> shares_;
  Share share_;
  Schedule schedule_;
  io::SampleOrder order_;
  io::BatchReader reader_;
  std::unique_ptr<StepRunner> runner_;
  std::vector<io::Batch> batches_;  // of the coming step
  std::vector<double> weights_;     // of the coming step: micro-batch by micro-batch, one a term
  std::int64_t bad_samples_ = 0;    // of the coming step, on all ranks
  double data_wait_ = 0;
  io::RowFetcher::Counts data_counts_;  // up to the last step
  double comm_wait_ = 0;
  std::unique_ptr<io::Loader> loader_;
};

}  // namespace hadal::engine
