#include "engine/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/plan.hpp"

namespace hadal::engine {
namespace {

double cosine_between(double from, double to, double t) {
  return to + (from - to) * (1 + std::cos(std::numbers::pi * t)) / 2;
}

double one_cycle(double t) {
  constexpr double kRise = 0.3;
  constexpr double kStart = 1.0 / 25;
  constexpr double kEnd = kStart / 1e4;
  return t < kRise ? cosine_between(kStart, 1, t / kRise)
                   : cosine_between(1, kEnd, (t - kRise) / (1 - kRise));
}

}  // namespace

Schedule::Schedule(const ScheduleOptions& options, double base_lr, std::int64_t steps,
                   std::int64_t steps_per_epoch)
    : options_(options),
      base_lr_(base_lr),
      steps_(steps),
      warmup_(in_steps(options.warmup, steps_per_epoch)),
      steps_per_epoch_(steps_per_epoch) {}

double Schedule::lr(std::int64_t step) const {
  if (step < warmup_) {
    return base_lr_ * static_cast<double>(step + 1) / static_cast<double>(warmup_);
  }
  return base_lr_ * factor(step);
}

double Schedule::factor(std::int64_t step) const {
  const double floor = options_.floor;
  const double t = static_cast<double>(step - warmup_) /
                   static_cast<double>(std::max<std::int64_t>(1, steps_ - warmup_));
  switch (options_.kind) {
    case ScheduleKind::constant:
      return 1;
    case ScheduleKind::step: {
      const auto passed = std::count_if(
          options_.milestones.begin(), options_.milestones.end(),
          [&](const Span& milestone) { return step >= in_steps(milestone, steps_per_epoch_); });
      return std::max(floor, std::pow(options_.gamma, static_cast<double>(passed)));
    }
    case ScheduleKind::cosine:
      return cosine_between(1, floor, std::min(1.0, t));
    case ScheduleKind::polynomial:
      return floor + (1 - floor) * std::pow(std::max(0.0, 1 - t), options_.power);
    case ScheduleKind::one_cycle:
      return one_cycle(std::min(1.0, t));
  }
  return 1;
}

}  // namespace hadal::engine
