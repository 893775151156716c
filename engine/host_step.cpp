#include "engine/host_step.hpp"

#include <cstring>

#include "engine/block_sums.hpp"
#include "engine/replica_check.hpp"
#include "engine/stopwatch.hpp"
#include "kernels/bfloat16.hpp"

namespace hadal::engine {

HostStep::HostStep(const RunConfig& config, Communicator& comm, Session& session,
                   std::vector<Share> shares)
    : comm_(comm),
      host_(session.host()),
      pool_(session.pool()),
      model_(session.model()),
      memory_(session.gradients()),
      state_(session.state()),
      rounding_(state_.rounding ? &*state_.rounding : nullptr),
      fast_(config.train.order == SumOrder::fast),
      share_(shares[static_cast<std::size_t>(comm.rank())]),
      reducer_(comm, session.host(), state_.weights.layout, memory_, std::move(shares),
               pool_.team(), rounding_),
      overlap_(comm, config.run.overlap, reducer_.can_overlap() && !fast_) {
  round_parameters();
}

// The ranks of a host share out its copy.
void HostStep::round_parameters() {
  Weights& weights = state_.weights;
  if (weights.rounded.empty()) return;
  const Share mine = shares(std::ssize(weights.rounded), host_.size())[std::size_t(host_.rank())];
  const auto begin = static_cast<std::size_t>(mine.begin);
  const auto count = static_cast<std::size_t>(mine.count());
  kernels::to_bfloat16(weights.rounded.subspan(begin, count),
                       std::span<const float>(weights.parameters).subspan(begin, count));
  host_.barrier();
  weights.rounded_is_filled = true;
}

void HostStep::begin(const Leaves& leaves, std::vector<MicroBatchJob> jobs) {
  leaves_ = &leaves;
  jobs_ = std::move(jobs);
  losses_.assign(jobs_.size(), 0.0f);
  gradients_.emplace(memory_, state_.weights.layout, leaves, share_, rounding_);
  buffers_.emplace(leaves, share_, add_buffers);
  overlaps_ = overlap_.on();
  work_.emplace(pool_.start(0, std::ssize(jobs_), [this](Worker& worker, std::int64_t number) {
    compute(worker, static_cast<std::size_t>(number));
  }));
}

void HostStep::compute(Worker& worker, std::size_t number) {
  const MicroBatchJob& job = jobs_[number];
  try {
    MicroBatchResult result =
        worker.train(*job.batch, job.factors, job.seed, gradients_->begin(job.leaf),
                     [&](std::size_t entry) { gradients_->arrived(entry); });
    gradients_->end(job.leaf);
    losses_[number] = result.loss;
    buffers_->arrive(job.leaf, buffer_leaf(model_.buffers(), std::move(result.buffers)));
  } catch (...) {
    gradients_->abandon();
    throw;
  }
}

StepRunner::Computed HostStep::finish() {
  Computed computed;
  const Stopwatch watch;
  if (overlaps_) gradient_ = reducer_.reduce(*gradients_, *leaves_);
  // It ends with the micro-batches, also where one has failed.
  ThreadTeam::Running work = std::move(*work_);
  work_.reset();
  computed.compute_seconds = work.finish();
  computed.reduce_seconds = std::max(0.0, watch.seconds() - computed.compute_seconds);
  computed.losses = std::move(losses_);
  computed.buffers = buffers_->take();
  return computed;
}

std::vector<double> HostStep::reduce() {
  if (fast_) {
    gradient_ = reducer_.reduce_fast(*gradients_);
  } else if (!overlaps_) {
    gradient_ = reducer_.reduce(*gradients_, *leaves_);
  }
  return reducer_.squares();
}

void HostStep::update(double lr, std::int64_t number, float grad_scale) {
  Optimizer& optimizer = state_.optimizer;
  const std::span<float> parameters = state_.weights.parameters;
  if (optimizer.has_ratios()) {
    pool_.run(0, optimizer.run_count(), [&](Worker&, std::int64_t run) {
      optimizer.measure(run, parameters, gradient_, lr, number, grad_scale);
    });
    optimizer.set_ratios(state_.weights.layout,
                         in_block_order(comm_, state_.weights.layout, optimizer.measured(), 2));
  }
  pool_.run(0, optimizer.run_count(), [&](Worker&, std::int64_t run) {
    optimizer.update(run, parameters, state_.weights.rounded, gradient_, lr, number, grad_scale);
  });
  reducer_.gather(parameters, state_.weights.rounded, optimizer.changes());
}

void HostStep::swap_average() {
  state_.optimizer.swap_average(state_.weights.parameters, state_.weights.rounded);
  reducer_.gather(state_.weights.parameters, state_.weights.rounded);
}

void HostStep::check_replicas(const std::string& when) {
  engine::check_replicas(comm_, host_, state_.weights, pool_.team(), when);
}

}  // namespace hadal::engine
