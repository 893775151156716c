#pragma once
// What rank 0 shows of a run while it goes: a line on standard error (redrawn on a terminal, a
// plain one every few seconds elsewhere), metrics.jsonl and status.json.

#include "engine/run.hpp"
#include "engine/stopwatch.hpp"
#include "launch/loss_spikes.hpp"
#include "launch/run_folder.hpp"
#include "launch/slow_ranks.hpp"

namespace hadal::launch {

class Progress : public engine::RunObserver {
 public:
  // `folder` is null on ranks other than 0, which only answer wishes(). `hosts` by rank.
  Progress(const engine::RunConfig& config, RunFolder* folder, Status& status,
           std::vector<std::string> hosts);

  void on_phase(const char* phase) override;
  void on_start(const engine::TrainingPlan& plan, std::int64_t first_step) override;
  void on_step(const engine::StepReport& report) override;
  void on_evaluation(const engine::EvaluationResult& result, std::int64_t step, bool is_best,
                     double seconds) override;
  void on_failed_checkpoint(std::int64_t step, const std::string& reason) override;
  void on_checkpoint(const std::filesystem::path& folder, std::int64_t step,
                     double seconds) override;
  engine::Wishes wishes() override;

  std::int64_t first_step() const { return first_step_; }

 private:
  void draw(const engine::StepReport& report);
  void tell_reading(std::int64_t step);
  void tell_trouble(const engine::StepReport& report);
  void record_event(const char* name, std::int64_t step, nlohmann::ordered_json more);
  double lead() const;
  template <class Write>
  void attempt(Write write);
  void record(const nlohmann::ordered_json& line);
  void show_status();
  void end_line();

  const engine::RunConfig& config_;
  RunFolder* folder_;
  Status& status_;
  engine::TrainingPlan plan_;
  std::int64_t first_step_ = 0;
  double end_time_ = 0;  // seconds since 1970; 0: unknown
  // The longest so far, in seconds: what a stop in time must leave room for.
  double longest_step_ = 0;
  double longest_save_ = 0;
  double longest_evaluation_ = 0;
  bool terminal_ = false;
  bool line_open_ = false;
  engine::Stopwatch since_line_;
  engine::Stopwatch since_stop_file_;
  bool stop_file_ = false;
  // Sums since the last line.
  std::int64_t steps_ = 0;
  double seconds_ = 0;
  double data_wait_ = 0;
  double comm_wait_ = 0;
  io::RowFetcher::Counts data_;  // since the epoch began
  SlowRanks slow_ranks_;
  LossSpikes loss_spikes_;
};

}  // namespace hadal::launch
