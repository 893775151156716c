#include "engine/trainer.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/block_sums.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/device/device_step.hpp"
#include "engine/host_step.hpp"
#include "engine/stopwatch.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// Steps between two comparisons of the ranks' models.
constexpr std::int64_t kCheckEvery = 50;

std::unique_ptr<StepRunner> make_runner(const RunConfig& config, Communicator& comm,
                                        Session& session, const std::vector<Share>& shares) {
  if (session.device() == nullptr) {
    return std::make_unique<HostStep>(config, comm, session, shares);
  }
  return std::make_unique<DeviceStep>(config, comm, session, shares);
}

// What every rank tells the others in a step; losses and weights of its share follow, then nothing
// else.
struct Header {
  std::int32_t failed = 0;
  std::int32_t stop = 0;
  std::int32_t save = 0;
  std::int32_t save_progress = 0;
  std::int64_t bad_samples = 0;
  RankTimes times;
};

std::uint64_t micro_batch_seed(std::uint64_t seed, std::int64_t step, std::int64_t micro_batch) {
  return io::mix(seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(micro_batch));
}

float tree_sum(const std::vector<float>& values, const Leaves& leaves) {
  CanonicalFold<float> fold(leaves, {0, leaves.count()}, [](float a, float b) { return a + b; });
  for (std::size_t m = 0; m < values.size(); ++m) {
    const auto leaf = static_cast<std::int64_t>(m);
    if (leaves.any(leaf, leaf + 1)) fold.arrive(leaf, values[m]);
  }
  return fold.take().begin()->second;
}

}  // namespace

// The ranks' records, joined.
struct Trainer::Control {
  Wishes agreed;
  std::vector<float> losses;  // of all micro-batches
  std::vector<RankTimes> ranks;
};

Trainer::Trainer(const RunConfig& config, const TrainingPlan& plan, Communicator& comm,
                 Session& session, const io::DataIndex& index)
    : config_(config),
      plan_(plan),
      comm_(comm),
      pool_(session.pool()),
      objective_(session.objective()),
      model_(session.model()),
      index_(index),
      state_(session.state()),
      shares_(session.shares()),
      share_(shares_[static_cast<std::size_t>(comm.rank())]),
      schedule_(config.schedule, config.optimizer.lr, plan.steps, plan.steps_per_epoch),
      order_(order_options(config, index)),
      reader_(index, session.batch_options(config)),
      runner_(make_runner(config, comm, session, shares_)) {
  loader_ =
      std::make_unique<io::Loader>([this](std::int64_t step) { return load(step); },
                                   state_.progress.step, plan.steps, config.data.batch.readers);
  std::optional<io::Error> failure;
  if (state_.progress.step < plan.steps) {
    try {
      fetch_next();
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
    exchange({}, std::vector<float>(static_cast<std::size_t>(share_.count())), {}, failure);
  }
}

std::vector<io::Batch> Trainer::load(std::int64_t step) {
  std::vector<io::Batch> batches;
  for (std::int64_t m = share_.begin; m < share_.end; ++m) {
    const std::int64_t epoch = plan_.epoch_of(step);
    batches.push_back(reader_.read(order_.micro_batch(epoch, plan_.step_in_epoch(step), m),
                                   io::Draws{config_.run.seed, epoch}));
    batches.back().weights = objective_.weights(batches.back());
  }
  return batches;
}

void Trainer::fetch_next() {
  const Stopwatch watch;
  batches_.clear();
  batches_ = loader_->next();
  data_wait_ += watch.seconds();
}

// Joins one record a rank: losses of this step, weights of the next one's batches. The largest
// share sets the record's size, so that one all-gather does it.
Trainer::Control Trainer::exchange(const Wishes& mine, const std::vector<float>& losses,
                                   const RankTimes& times,
                                   const std::optional<io::Error>& failure) {
  std::int64_t widest = 0;
  for (const Share& share : shares_) widest = std::max(widest, share.count());
  const auto slots = static_cast<std::size_t>(widest);
  const std::size_t terms = objective_.term_count();
  const std::size_t weights_bytes = slots * terms * sizeof(double);
  const std::size_t record = sizeof(Header) + weights_bytes + slots * sizeof(float);
  std::vector<std::byte> out(record);
  Header header{.failed = failure ? 1 : 0,
                .stop = static_cast<std::int32_t>(mine.stop),
                .save = mine.save ? 1 : 0,
                .save_progress = mine.save_progress,
                .times = times};
  std::byte* const weights = out.data() + sizeof header;
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    header.bad_samples += batches_[i].skipped;
    std::memcpy(weights + i * terms * sizeof(double), batches_[i].weights.data(),
                terms * sizeof(double));
  }
  std::memcpy(out.data(), &header, sizeof header);
  if (!losses.empty()) {
    std::memcpy(weights + weights_bytes, losses.data(), losses.size() * sizeof(float));
  }
  std::vector<std::byte> all(record * static_cast<std::size_t>(comm_.size()));
  const Stopwatch watch;
  comm_.all_gather(out, all);
  comm_wait_ += watch.seconds();
  Control control{.agreed = {},
                  .losses = std::vector<float>(static_cast<std::size_t>(plan_.micro_batches)),
                  .ranks = {}};
  weights_.assign(static_cast<std::size_t>(plan_.micro_batches) * terms, 0.0);
  bad_samples_ = 0;
  bool failed = false;
  for (std::size_t r = 0; r < shares_.size(); ++r) {
    const std::byte* const from = all.data() + r * record;
    Header theirs;
    std::memcpy(&theirs, from, sizeof theirs);
    failed = failed || theirs.failed != 0;
    control.agreed.stop = std::max(control.agreed.stop, static_cast<StopReason>(theirs.stop));
    control.agreed.save = control.agreed.save || theirs.save != 0;
    control.agreed.save_progress = std::min(control.agreed.save_progress, theirs.save_progress);
    bad_samples_ += theirs.bad_samples;
    control.ranks.push_back(theirs.times);
    const auto count = static_cast<std::size_t>(shares_[r].count());
    const auto first = static_cast<std::size_t>(shares_[r].begin);
    std::memcpy(weights_.data() + first * terms, from + sizeof theirs,
                count * terms * sizeof(double));
    std::memcpy(control.losses.data() + first, from + sizeof theirs + weights_bytes,
                count * sizeof(float));
  }
  if (failed) agree_on_failure(comm_, fmt::format("step {}", state_.progress.step + 1), failure);
  return control;
}

// What this rank computes in the coming step.
std::vector<MicroBatchJob> Trainer::jobs(const Leaves& leaves,
                                         const std::vector<double>& step_weights) const {
  std::vector<MicroBatchJob> jobs;
  for (std::size_t i = 0; i < batches_.size(); ++i) {
    const io::Batch& batch = batches_[i];
    const std::int64_t m = share_.begin + static_cast<std::int64_t>(i);
    if (!leaves.any(m, m + 1)) continue;
    MicroBatchJob job{.leaf = m,
                      .batch = &batch,
                      .factors = {},
                      .seed = micro_batch_seed(config_.run.seed, state_.progress.step, m)};
    for (std::size_t t = 0; t < step_weights.size(); ++t) {
      job.factors.push_back(batch.weights[t] == 0
                                ? 0.0f
                                : static_cast<float>(batch.weights[t] / step_weights[t] *
                                                     state_.progress.loss_scale.value()));
    }
    jobs.push_back(std::move(job));
  }
  return jobs;
}

double Trainer::norm_of(const std::vector<double>& owned_squares) {
  const ArenaLayout& layout = state_.weights.layout;
  const std::vector<double> squares = in_block_order(comm_, layout, owned_squares, 1);
  double total = 0;
  for (std::size_t k = 0; k < squares.size(); ++k) {
    // What this update leaves alone counts for nothing.
    const std::size_t entry = layout.blocks()[k].entry;
    if (state_.optimizer.trains(entry, state_.progress.updates + 1)) total += squares[k];
  }
  return std::sqrt(total);
}

void Trainer::update(double norm, double lr) {
  // torch.nn.utils.clip_grad_norm_: max_norm / (norm + 1e-6), never above 1.
  double scale = 1;
  if (config_.train.clip_norm) {
    scale = std::min(1.0, *config_.train.clip_norm / (norm + 1e-6));
  }
  LossScale& loss_scale = state_.progress.loss_scale;
  runner_->update(lr, ++state_.progress.updates, static_cast<float>(scale / loss_scale.value()));
  loss_scale.count_good();
}

void Trainer::swap_average() {
  if (state_.optimizer.has_average()) runner_->swap_average();
}

void Trainer::fail_not_finite(const std::vector<float>& losses) const {
  const std::int64_t step = state_.progress.step;
  const auto bad =
      std::find_if(losses.begin(), losses.end(), [](float l) { return !std::isfinite(l); });
  const std::string cure =
      "; lower optimizer.lr, set train.clip_norm, or set train.on_nonfinite = \"skip\"";
  if (bad == losses.end()) {
    throw io::Error(
        io::ErrorKind::numeric,
        fmt::format("the gradient of step {} is not finite, the losses are{}", step + 1, cure));
  }
  const std::int64_t m = bad - losses.begin();
  const auto ids = order_.micro_batch(plan_.epoch_of(step), plan_.step_in_epoch(step), m);
  const auto owner = std::find_if(shares_.begin(), shares_.end(), [&](const Share& share) {
    return m >= share.begin && m < share.end;
  });
  std::vector<std::string> rows;
  for (std::size_t i = 0; i < std::min<std::size_t>(ids.size(), 4); ++i) {
    rows.push_back(index_.fields.front().where(ids[i]));
  }
  throw io::Error(
      io::ErrorKind::numeric,
      fmt::format("the loss of step {} is {} in micro-batch {} (rank {}), samples {}{}{}", step + 1,
                  *bad, m, owner - shares_.begin(), fmt::join(rows, ", "),
                  ids.size() > 4 ? ", …" : "", cure));
}

void Trainer::check_replicas() {
  runner_->check_replicas(fmt::format("after step {}", state_.progress.step));
}

StepReport Trainer::step(const std::function<Wishes()>& ask) {
  Stopwatch watch;
  const double scale = state_.progress.loss_scale.value();
  StepReport report{.step = state_.progress.step + 1,
                    .lr = schedule_.lr(state_.progress.step),
                    .loss_scale = scale,
                    .bad_samples = bad_samples_};
  // A micro-batch takes part where any loss has something to divide by.
  std::vector<bool> present(static_cast<std::size_t>(plan_.micro_batches), false);
  std::vector<double> step_weights(objective_.term_count(), 0.0);
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    step_weights[i % step_weights.size()] += weights_[i];
    if (weights_[i] > 0) present[i / step_weights.size()] = true;
  }
  const Leaves leaves(present);
  std::vector<float> losses(batches_.size(), 0.0f);
  report.skipped = leaves.present() == 0;
  std::optional<io::Error> failure;
  StepRunner::Computed computed;
  try {
    if (!report.skipped) {
      const std::vector<MicroBatchJob> todo = jobs(leaves, step_weights);
      runner_->begin(leaves, todo);
      computed = runner_->finish();
      for (std::size_t k = 0; k < todo.size(); ++k) {
        losses[static_cast<std::size_t>(todo[k].leaf - share_.begin)] =
            static_cast<float>(computed.losses[k] / scale);
      }
    }
    report.compute_seconds = computed.compute_seconds;
    report.reduce_seconds = computed.reduce_seconds;
    if (report.step < plan_.steps) fetch_next();
  } catch (const std::exception& exception) {
    failure = io::as_error(exception);
  }
  const Stopwatch asking;
  const Wishes mine = ask();
  const auto save_seconds = static_cast<float>(asking.seconds());
  const std::int64_t rounds = (share_.count() + pool_.size() - 1) / pool_.size();
  Stopwatch reducing;
  Control control = exchange(mine, losses,
                             {.data = static_cast<float>(data_wait_),
                              .compute = static_cast<float>(report.compute_seconds) /
                                         static_cast<float>(std::max<std::int64_t>(rounds, 1)),
                              .save = save_seconds},
                             failure);
  report.agreed = control.agreed;
  report.ranks = std::move(control.ranks);
  if (!report.skipped) {
    report.loss = tree_sum(control.losses, leaves);
    const BufferValues next = join_buffers(comm_, model_.buffers(), leaves, computed.buffers);
    report.grad_norm = norm_of(runner_->reduce()) / scale;
    const bool finite = std::isfinite(report.loss) && std::isfinite(report.grad_norm);
    report.overflowed =
        !finite && std::isfinite(report.loss) && state_.progress.loss_scale.can_shrink();
    if (report.overflowed) {
      state_.progress.loss_scale.shrink();
    } else if (!finite && config_.train.on_nonfinite == OnNonFinite::stop) {
      fail_not_finite(control.losses);
    }
    report.skipped = !finite;
    report.reduce_seconds += reducing.lap();
    if (finite) {
      update(report.grad_norm, report.lr);
      report.update_seconds = reducing.lap();
      state_.weights.buffers = next;
    }
  }
  if (report.skipped) ++state_.progress.skipped;
  ++state_.progress.step;
  if (state_.progress.step % kCheckEvery == 0) check_replicas();
  report.data_wait_seconds = std::exchange(data_wait_, 0.0);
  report.comm_wait_seconds = std::exchange(comm_wait_, 0.0) + runner_->take_wait_seconds();
  report.sent_bytes = runner_->take_sent_bytes();
  const io::RowFetcher::Counts counts = reader_.counts();
  report.data = counts - std::exchange(data_counts_, counts);
  report.seconds = watch.seconds();
  runner_->record(report.seconds);
  return report;
}

}  // namespace hadal::engine
