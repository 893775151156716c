#include "engine/device/device_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "engine/block_sums.hpp"
#include "engine/replica_check.hpp"
#include "engine/stopwatch.hpp"
#include "io/log.hpp"
#include "kernels/bfloat16.hpp"

namespace hadal::engine {

using Lane = Device::Lane;

DeviceStep::DeviceStep(const RunConfig& config, Communicator& comm, Session& session,
                       const std::vector<Share>& shares)
    : comm_(comm),
      session_(session),
      device_(*session.device()),
      messages_(session.messages()),
      weights_(session.device_weights()),
      state_(session.state()),
      layout_(state_.weights.layout),
      fast_(config.train.order == SumOrder::fast),
      share_(shares[static_cast<std::size_t>(comm.rank())]),
      rounding_(state_.rounding ? std::optional(DeviceRounding(device_, *state_.rounding, share_,
                                                               layout_.size()))
                                : std::nullopt),
      reducer_(comm, device_, messages_, layout_, shares, rounding_ ? &*rounding_ : nullptr),
      optimizer_(device_, state_.optimizer, layout_, comm.rank(), comm.size()),
      unwinding_(std::uncaught_exceptions()) {
  int buffers = 1;
  for (const Share& share : shares)
    buffers = std::max(buffers, GradientPool::buffers_for(share, 1));
  const auto count = static_cast<std::size_t>(layout_.size());
  for (int k = 0; k < buffers; ++k) {
    buffers_.emplace_back(messages_.allocate(count * sizeof(float)), count);
  }
  recorded_.resize(buffers_.size());
  weights_.push(state_.weights);
  state_.weights.rounded_is_filled = true;
  optimizer_.push();
  // One rank of a host has read it for all.
  session.host().barrier();
  if (rounding_) rounding_->push();
}

// While an error is on its way, what is queued may wait for ranks that are gone, and memory for it.
DeviceStep::~DeviceStep() {
  if (std::uncaught_exceptions() > unwinding_) messages_.abandon();
}

int DeviceStep::take_buffer() {
  const int buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void DeviceStep::begin(const Leaves& leaves, std::vector<MicroBatchJob> jobs) {
  leaves_ = &leaves;
  jobs_ = std::move(jobs);
  results_.assign(jobs_.size(), {});
  free_.clear();
  for (int k = static_cast<int>(buffers_.size()); k-- > 0;) free_.push_back(k);
  complete_.assign(layout_.bucket_count(), nullptr);
  missing_.assign(layout_.bucket_count(), 0);
  for (const ArenaEntry& entry : layout_.entries()) {
    if (entry.count == 0) continue;
    for (std::size_t b = entry.first_bucket; b <= entry.last_bucket; ++b) ++missing_[b];
  }
  // Sums in place, in the lane that made the gradients.
  const auto add = [this](int a, int b) {
    kernels::add_into(device_.stream(Lane::compute), values(a), values(b));
    free_.push_back(b);
    return a;
  };
  fold_.emplace(leaves, share_, add, [this](kernels::TreeNode node, int& buffer) {
    if (!rounding_ || !rounding_->is_part(node)) return;
    rounding_->round(Lane::compute, node, 0, values(buffer));
  });
  // The parameters of the last update are on their way in the other lane.
  device_.wait(Lane::compute, device_.mark(Lane::reduce));
  work_.emplace(
      session_.pool().start(0, 1, [this](Worker& worker, std::int64_t) { compute(worker); }));
}

void DeviceStep::compute(Worker& worker) {
  for (std::size_t number = 0; number < jobs_.size(); ++number) take_gradient(worker, number);
}

void DeviceStep::take_gradient(Worker& worker, std::size_t number) {
  const MicroBatchJob& job = jobs_[number];
  const bool last = number + 1 == jobs_.size();
  const int buffer = take_buffer();
  const Arrived arrived = [&](std::size_t entry) {
    const ArenaEntry& its = layout_.entries()[entry];
    if (its.count == 0) return;
    for (std::size_t b = its.first_bucket; b <= its.last_bucket; ++b) {
      if (--missing_[b] == 0) complete_[b] = device_.mark(Lane::compute);
    }
  };
  results_[number] =
      worker.train(*job.batch, job.factors, job.seed, values(buffer), last ? arrived : Arrived());
  if (last) settle_marks(results_[number].told, recorded_[static_cast<std::size_t>(buffer)]);
  // The last one is added where the ranks' sum begins.
  fold_->arrive(job.leaf, buffer, !last);
}

// When the buckets of the last micro-batch are complete.
void DeviceStep::settle_marks(Told told, std::vector<Device::Mark>& recorded) {
  switch (told) {
    case Told::now:
      recorded = complete_;
      break;
    case Told::before:
      if (recorded.empty()) return settle_marks(Told::wrong, recorded);
      complete_ = recorded;
      break;
    case Told::wrong:
      complete_.assign(complete_.size(), device_.mark(Lane::compute));
      break;
  }
}

void DeviceStep::start_sum() {
  std::vector<GradientSource> own;
  for (const auto& [node, buffer] : fold_->nodes()) {
    own.push_back({node, values(buffer).data()});
  }
  gradient_ = own.empty() ? values(take_buffer()) : values(fold_->nodes().begin()->second);
  const std::span<const Device::Mark> ready =
      jobs_.empty() ? std::span<const Device::Mark>() : complete_;
  if (fast_) {
    reducer_.reduce_fast(own, ready, gradient_);
  } else {
    reducer_.reduce(*leaves_, own, ready, gradient_);
  }
}

StepRunner::Computed DeviceStep::finish() {
  const Stopwatch watch;
  // It ends with the queueing, also where that has failed.
  ThreadTeam::Running work = std::move(*work_);
  work_.reset();
  work.finish();
  // Another rank may have failed; messages that wait for it are given up when all know.
  if (!messages_.blocks()) start_sum();
  Computed computed;
  CanonicalFold<BufferSum> buffers(*leaves_, share_, add_buffers);
  for (std::size_t k = 0; k < jobs_.size(); ++k) {
    Worker::collect(device_, results_[k]);
    computed.losses.push_back(results_[k].loss);
    buffers.arrive(jobs_[k].leaf,
                   buffer_leaf(session_.model().buffers(), std::move(results_[k].buffers)));
  }
  computed.buffers = buffers.take();
  tell_memory();
  computed.compute_seconds = watch.seconds();
  return computed;
}

// Once, when the first activations have been there.
void DeviceStep::tell_memory() {
  if (std::exchange(memory_is_told_, true) || comm_.rank() != 0) return;
  constexpr double kGiB = 1 << 30;
  const Device::Room room = device_.room();
  std::size_t gradients = 0;
  for (const DeviceArray<float>& buffer : buffers_) gradients += buffer.bytes().size();
  const auto gib = [](std::size_t bytes) { return static_cast<double>(bytes) / kGiB; };
  io::log_info(fmt::format(
      "{}: {:.2f} of {:.2f} GiB in use: weights {:.2f}, optimizer {:.2f}, gradients {:.2f}; the "
      "rest are activations, libraries and other programs",
      device_.name(), gib(room.all - room.free), gib(room.all), gib(weights_.bytes()),
      gib(optimizer_.bytes()), gib(gradients)));
}

std::vector<double> DeviceStep::reduce() {
  if (messages_.blocks()) start_sum();
  const Stopwatch watch;
  std::vector<double> squares =
      optimizer_.squares(Lane::reduce, gradient_.data(), [this] { messages_.check(); });
  wait_seconds_ += watch.seconds();
  return squares;
}

void DeviceStep::gather() {
  device_.wait(Lane::reduce, device_.mark(Lane::compute));
  reducer_.gather(weights_.parameters());
  weights_.round(Lane::reduce);
}

void DeviceStep::update(double lr, std::int64_t number, float grad_scale) {
  device_.wait(Lane::compute, device_.mark(Lane::reduce));
  if (state_.optimizer.has_ratios()) {
    state_.optimizer.set_ratios(
        layout_,
        in_block_order(comm_, layout_,
                       optimizer_.measure(weights_, gradient_.data(), lr, number, grad_scale), 2));
  }
  const bool alone = comm_.size() == 1;
  const bool follows = optimizer_.has_masters();
  optimizer_.update(weights_, gradient_.data(), lr, number, grad_scale, alone && !follows);
  if (follows) {
    follow_masters();
  } else if (!alone) {
    gather();
  }
}

void DeviceStep::follow_masters() {
  device_.wait(Lane::reduce, device_.mark(Lane::compute));
  reducer_.gather(optimizer_.changes());
  kernels::add_bfloat16(device_.stream(Lane::reduce), weights_.parameters(), optimizer_.changes());
  weights_.round(Lane::reduce);
}

void DeviceStep::swap_average() {
  device_.wait(Lane::compute, device_.mark(Lane::reduce));
  optimizer_.swap_average(weights_);
  gather();
  device_.finish(Lane::reduce, [this] { messages_.check(); });
}

void DeviceStep::check_replicas(const std::string& when) {
  device_.finish(Lane::reduce, [this] { messages_.check(); });
  check_copies(comm_, weights_.hash(), state_.weights, when);
}

void DeviceStep::parameters_to_host() {
  device_.finish(Lane::reduce, [this] { messages_.check(); });
  weights_.pull(state_.weights, session_.host());
}

void DeviceStep::state_to_host() {
  if (rounding_) {
    rounding_->pull();
    session_.host().barrier();
  }
  parameters_to_host();
  optimizer_.pull();
}

}  // namespace hadal::engine
