#include "engine/saver.hpp"

#include <algorithm>

#include "engine/comm/collectively.hpp"

namespace hadal::engine {
namespace {

constexpr double kLeastPause = 30;
constexpr double kWaitedRatio = 50;
// The disk is others' too: it is written for a tenth of the time at most.
constexpr double kTookRatio = 10;
// Threads that copy beside those that compute.
constexpr int kMostCopiers = 4;

std::int64_t kept_every(const RunConfig& config, const TrainingPlan& plan) {
  return config.checkpoint.keep_every
             ? in_steps(*config.checkpoint.keep_every, plan.steps_per_epoch)
             : 0;
}

}  // namespace

SaveClock::SaveClock(const CheckpointOptions& options, const TrainingPlan& plan)
    : pause_(kLeastPause) {
  if (!options.every) return;
  seconds_ = options.every->unit == Span::Unit::seconds ? options.every->value : 0;
  steps_ = seconds_ > 0 ? 0 : in_steps(*options.every, plan.steps_per_epoch);
}

bool SaveClock::due(std::int64_t coming_step) const {
  if (steps_ > 0) return coming_step % steps_ == 0;
  return watch_.seconds() >= (seconds_ > 0 ? seconds_ : pause_);
}

void SaveClock::saved(double waited, double took) {
  pause_ = std::max({kLeastPause, kWaitedRatio * waited, kTookRatio * took});
  watch_.lap();
}

Saver::Saver(const RunConfig& config, const TrainingPlan& plan, Communicator& comm,
             Session& session, CheckpointMemory& memory, nlohmann::json identity,
             RunObserver& observer)
    : comm_(comm),
      state_(session.state()),
      observer_(observer),
      goes_on_when_full_(config.checkpoint.on_full == OnFull::go_on),
      asynchronous_(config.checkpoint.asynchronous && memory.is_whole()),
      identity_(std::move(identity)),
      clock_(config.checkpoint, plan),
      writer_(comm, memory, std::clamp(session.pool().size() / 2, 1, kMostCopiers),
              {.folder = config.run.dir / "checkpoints",
               .keep = config.checkpoint.keep,
               .stays = [every = kept_every(config, plan)](std::int64_t step) {
                 return every > 0 && step % every == 0;
               }}) {}

void Saver::ask(Wishes& mine, std::int64_t coming_step) {
  const Stopwatch watch;
  writer_.copy();
  mine.save_progress = writer_.progress();
  mine.save = comm_.rank() == 0 && clock_.due(coming_step);
  waited_ += watch.seconds();
  waited_for_this_ += watch.seconds();
}

// A checkpoint that cannot be written is an error, or waits for the next one.
template <class Body>
void Saver::attempt(At at, Body body) {
  const Stopwatch watch;
  const auto count = [&] {
    waited_ += watch.seconds();
    waited_for_this_ += watch.seconds();
  };
  std::optional<std::filesystem::path> folder;
  try {
    folder = body();
    count();
  } catch (const AgreedError& error) {
    count();
    clock_.saved(waited_for_this_, writer_.seconds());
    const bool goes_on =
        at != At::stop && goes_on_when_full_ && error.kind() == io::ErrorKind::storage;
    if (!goes_on) throw;
    observer_.on_failed_checkpoint(step_, error.what());
    return;
  }
  if (!folder) return;
  newest_ = *folder;
  clock_.saved(waited_for_this_, writer_.seconds());
  observer_.on_checkpoint(newest_, step_, writer_.seconds());
}

void Saver::go_on(const Wishes& agreed) {
  if (!writer_.busy()) return;
  attempt(At::step, [&] { return writer_.advance(agreed.save_progress); });
}

void Saver::finish(At at) {
  if (!writer_.busy()) return;
  attempt(at, [&] { return std::optional(writer_.finish()); });
}

void Saver::save(At at) {
  observer_.on_phase("save");
  finish(at == At::stop ? At::step : at);
  const Stopwatch watch;
  step_ = state_.progress.step;
  nlohmann::json run = identity_;
  run["progress"] = progress_record(state_.progress);
  writer_.begin(step_, std::move(run));
  // What is left out of the gradients' parts changes while the next one is computed.
  if (asynchronous_ && state_.rounding) writer_.copy();
  waited_for_this_ = watch.seconds();
  waited_ += waited_for_this_;
  if (at != At::step || !asynchronous_) finish(at);
}

}  // namespace hadal::engine
