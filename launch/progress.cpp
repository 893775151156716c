#include "launch/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "io/error.hpp"
#include "io/log.hpp"
#include "launch/environment.hpp"
#include "launch/signals.hpp"
#include "launch/slurm.hpp"

namespace hadal::launch {
namespace {

// Left of the allocation's time for the end of the ranks and of the job script, at least.
constexpr double kTimeMargin = 30;

// Bytes decoded in an epoch from which on it matters how often each is.
constexpr std::int64_t kWorthTelling = std::int64_t{256} << 20;

// The earliest of what is known of the end, in seconds since 1970; 0: nothing.
double known_end(const engine::RunConfig& config, bool asks_slurm) {
  double end = 0;
  const auto take = [&](double one) {
    if (one > 0 && (end == 0 || one < end)) end = one;
  };
  for (const char* name : {"HADAL_END_TIME", "SLURM_JOB_END_TIME"}) {
    if (const auto text = environment_variable(name)) take(std::strtod(text->c_str(), nullptr));
  }
  // Not every release says so in the environment (22.05 does not); one rank asks for all.
  const auto job = environment_variable("SLURM_JOB_ID");
  if (asks_slurm && end == 0 && job) {
    take(slurm_end_time(static_cast<std::uint32_t>(std::strtoul(job->c_str(), nullptr, 10))));
  }
  if (config.run.deadline > 0) {
    take(static_cast<double>(std::time(nullptr)) + config.run.deadline + kTimeMargin);
  }
  return end;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

Progress::Progress(const engine::RunConfig& config, RunFolder* folder, Status& status,
                   std::vector<std::string> hosts)
    : config_(config),
      folder_(folder),
      status_(status),
      first_step_(status.step),
      terminal_(::isatty(STDERR_FILENO) != 0),
      slow_ranks_(std::move(hosts)) {
  end_time_ = known_end(config, folder != nullptr);
}

void Progress::on_phase(const char* phase) {
  status_.phase = phase;
  note_place(phase, status_.step);
}

void Progress::on_start(const engine::TrainingPlan& plan, std::int64_t first_step) {
  plan_ = plan;
  first_step_ = first_step;
  status_.step = first_step;
  status_.steps = plan.steps;
  since_line_.lap();
  if (folder_ == nullptr) return;
  folder_->open_metrics(first_step);
  show_status();
}

void Progress::on_step(const engine::StepReport& report) {
  status_.step = report.step;
  longest_step_ = std::max(longest_step_, report.seconds);
  status_.epoch = static_cast<double>(report.step) / static_cast<double>(plan_.steps_per_epoch);
  if (folder_ == nullptr) return;
  ++steps_;
  seconds_ += report.seconds;
  data_wait_ += report.data_wait_seconds;
  comm_wait_ += report.comm_wait_seconds;
  data_ = data_ + report.data;
  tell_trouble(report);
  const auto share = [&](double part) { return report.seconds > 0 ? part / report.seconds : 0.0; };
  const double samples = static_cast<double>(config_.train.global_batch);
  record({{"kind", "train"},
          {"step", report.step},
          {"epoch", status_.epoch},
          {"time", utc_now()},
          {"loss", report.loss},
          {"lr", report.lr},
          {"grad_norm", report.grad_norm},
          {"samples_per_second", report.seconds > 0 ? samples / report.seconds : 0.0},
          {"data_wait", share(report.data_wait_seconds)},
          {"comm_wait", share(report.comm_wait_seconds)},
          {"reduce", share(report.reduce_seconds)},
          {"update", share(report.update_seconds)},
          {"sent_bytes", report.sent_bytes},
          {"checkpoint_stall", share(report.save_seconds)},
          {"skipped", report.skipped},
          {"loss_scale", report.loss_scale},
          {"bad_samples", report.bad_samples}});
  if (report.step % plan_.steps_per_epoch == 0) tell_reading(report.step);
  status_.metrics["loss"] = report.loss;
  const bool due = since_line_.seconds() >= (terminal_ ? 0.2 : config_.log_every_seconds);
  if (due || report.step == plan_.steps || report.step == first_step_ + 1) draw(report);
}

// What is not an error, but may become one.
void Progress::tell_trouble(const engine::StepReport& report) {
  const auto tell = [&](const std::string& text) {
    end_line();
    io::log_warning(text);
  };
  if (report.overflowed) {
    tell(fmt::format(
        "step {} was skipped: a gradient times the loss scale of {} is too large for float16; the "
        "scale is half of that now",
        report.step, report.loss_scale));
  } else if (report.skipped) {
    tell(fmt::format("step {} was skipped: not finite or empty", report.step));
  } else if (const auto before = loss_spikes_.take(report.loss)) {
    tell(fmt::format(
        "the loss of step {} is {:.6g}, that of the steps before it was {:.6g} (median)",
        report.step, report.loss, *before));
    record_event("loss_spike", report.step, {{"loss", report.loss}, {"before", *before}});
  }
  for (const std::string& line : slow_ranks_.take(report.ranks)) {
    tell(line);
    record_event("slow_rank", report.step, {{"reason", line}});
  }
}

// What an epoch has read on rank 0: of chunks that hold many samples it may be a multiple of them.
void Progress::tell_reading(std::int64_t step) {
  const auto data = std::exchange(data_, {});
  record_event(
      "epoch", step,
      {{"sample_bytes", data.asked}, {"read_bytes", data.read}, {"decoded_bytes", data.decoded}});
  if (data.decoded < std::max(2 * data.asked, kWorthTelling)) return;
  end_line();
  io::log_once(
      io::LogLevel::warning,
      fmt::format("in epoch {:.0f} {:.1f} bytes of chunks were decoded for each byte of the "
                  "samples; set data.shuffle = \"block\", raise data.memory, or repack the "
                  "files",
                  status_.epoch,
                  static_cast<double>(data.decoded) / static_cast<double>(data.asked)));
}

void Progress::draw(const engine::StepReport& report) {
  const double rate = static_cast<double>(steps_ * config_.train.global_batch) / seconds_;
  const double left =
      static_cast<double>(plan_.steps - report.step) * seconds_ / static_cast<double>(steps_);
  std::string line = fmt::format(
      "step {}/{}  epoch {:.2f}  loss {:.4f}  lr {:.3g}  {:.0f} samples/s  data wait {:.0f} %  "
      "comm wait "
      "{:.0f} %  left {}",
      report.step, plan_.steps, status_.epoch, report.loss, report.lr, rate,
      100 * data_wait_ / seconds_, 100 * comm_wait_ / seconds_, duration_text(left));
  if (status_.metrics.contains(config_.objective.best)) {
    line += fmt::format("  {} {:.4g}", config_.objective.best,
                        status_.metrics[config_.objective.best].get<double>());
  }
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", line);
    line_open_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
  if (since_line_.lap() > 1 || report.step == first_step_ + 1) show_status();
  steps_ = 0;
  seconds_ = data_wait_ = comm_wait_ = 0;
}

void Progress::end_line() {
  if (line_open_) fmt::print(stderr, "\n");
  line_open_ = false;
}

void Progress::on_evaluation(const engine::EvaluationResult& result, std::int64_t step,
                             bool is_best, double seconds) {
  longest_evaluation_ = std::max(longest_evaluation_, seconds);
  if (folder_ == nullptr) return;
  nlohmann::ordered_json line = {{"kind", "valid"},
                                 {"step", step},
                                 {"epoch", status_.epoch},
                                 {"time", utc_now()},
                                 {"samples", result.samples}};
  std::string text = fmt::format("step {}: validation on {} samples", step, result.samples);
  for (std::size_t i = 0; i < result.names.size(); ++i) {
    line[result.names[i]] = result.values[i];
    status_.metrics["valid." + result.names[i]] = result.values[i];
    text += fmt::format(", {} {:.6g}", result.names[i], result.values[i]);
  }
  record(line);
  end_line();
  io::log_info(text + (is_best ? ", the best so far" : ""));
}

void Progress::on_checkpoint(const std::filesystem::path& folder, std::int64_t step,
                             double seconds) {
  longest_save_ = std::max(longest_save_, seconds);
  status_.checkpoint = folder.string();
  if (folder_ == nullptr) return;
  end_line();
  io::log(io::LogLevel::debug,
          fmt::format("checkpoint of step {} in {:.2f} s: {}", step, seconds, folder.string()));
  show_status();
}

// How long before the end a run begins to stop: the step under way and what may follow it, an
// evaluation and a checkpoint, each may take longer than so far.
double Progress::lead() const {
  return kTimeMargin + 2 * (longest_step_ + longest_save_) + 1.5 * longest_evaluation_;
}

void Progress::on_failed_checkpoint(std::int64_t step, const std::string& reason) {
  if (folder_ == nullptr) return;
  end_line();
  io::log_warning(
      fmt::format("no checkpoint of step {}, the run goes on and tries again: {}", step, reason));
  record_event("failed_checkpoint", step, {{"reason", reason}});
}

// Where a run shall go on though the disk is full, it does without what cannot be written.
template <class Write>
void Progress::attempt(Write write) {
  try {
    write();
  } catch (const io::Error& error) {
    if (config_.checkpoint.on_full == engine::OnFull::stop) throw;
    io::log_once(io::LogLevel::warning, error.what());
  }
}

void Progress::record(const nlohmann::ordered_json& line) {
  attempt([&] { folder_->append_metrics(line); });
}

void Progress::record_event(const char* name, std::int64_t step, nlohmann::ordered_json more) {
  nlohmann::ordered_json line = {{"kind", "event"},
                                 {"event", name},
                                 {"step", step},
                                 {"epoch", status_.epoch},
                                 {"time", utc_now()}};
  line.update(more);
  record(line);
}

void Progress::show_status() {
  attempt([&] { folder_->update_status(status_); });
}

engine::Wishes Progress::wishes() {
  engine::Wishes wishes{.stop = requested_stop()};
  if (folder_ != nullptr) {
    // The file system is asked once a second, not once a step.
    if (!stop_file_ && since_stop_file_.seconds() > 1) {
      stop_file_ = folder_->stop_requested();
      since_stop_file_.lap();
    }
    if (stop_file_) wishes.stop = engine::StopReason::stop_file;
  }
  const bool time_is_up =
      end_time_ > 0 && static_cast<double>(std::time(nullptr)) > end_time_ - lead();
  if (wishes.stop == engine::StopReason::none && time_is_up) wishes.stop = engine::StopReason::time;
  return wishes;
}

}  // namespace hadal::launch
