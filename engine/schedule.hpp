#pragma once
// The learning rate as a pure function of the step: the same table for any number of ranks, and
// nothing to save.

#include <cstdint>

#include "engine/run_config.hpp"

namespace hadal::engine {

class Schedule {
 public:
  // `steps` is the length of the whole run.
  Schedule(const ScheduleOptions& options, double base_lr, std::int64_t steps,
           std::int64_t steps_per_epoch);

  // Learning rate of update `step`, counted from 0. During the warm-up it rises linearly to the
  // base rate: base * (step + 1) / warmup. Afterwards, with t the share of the remaining steps that
  // is done:
  //   cosine      floor + (1 - floor) (1 + cos(pi t)) / 2      (Loshchilov and Hutter 2017, eq. 5)
  //   polynomial  floor + (1 - floor) (1 - t)^power
  //   step        gamma^(number of milestones passed), at least floor
  //   one_cycle   cosine from base / 25 up to base over the first 30 %, then down to base / 250000
  //               (Smith and Topin 2018, with PyTorch's defaults)
  // times the base rate.
  double lr(std::int64_t step) const;

 private:
  double factor(std::int64_t step) const;

  ScheduleOptions options_;
  double base_lr_;
  std::int64_t steps_;
  std::int64_t warmup_;
  std::int64_t steps_per_epoch_;
};

}  // namespace hadal::engine
