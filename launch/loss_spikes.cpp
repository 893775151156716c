#include "launch/loss_spikes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/median.hpp"

namespace hadal::launch {
namespace {

constexpr std::size_t kWindow = 100;
constexpr std::size_t kLeast = 30;
// Deviations above the median: of noise that is heavier in the tails than a normal distribution
// none in a long run.
constexpr double kDeviations = 12;
// The same of logarithms: small losses, late in a training, differ by factors.
constexpr double kLogDeviations = 6;
// Of a normal distribution, for each of its median absolute deviations.
constexpr double kNormal = 1.4826;
// A loss that hardly changes has no deviation to speak of.
constexpr double kLeastDeviation = 0.05;

// Whether this one is so many deviations above those before it; their median is `middle`.
bool is_far_above(double value, std::vector<double> before, double middle, double least,
                  double deviations) {
  for (double& each : before) each = std::abs(each - middle);
  return value > middle + deviations * std::max(kNormal * engine::median(before), least);
}

bool is_spike(double loss, const std::vector<double>& before, double middle) {
  if (!is_far_above(loss, before, middle, kLeastDeviation * std::abs(middle), kDeviations)) {
    return false;
  }
  if (*std::min_element(before.begin(), before.end()) <= 0) return true;
  std::vector<double> logs;
  for (const double each : before) logs.push_back(std::log(each));
  return is_far_above(std::log(loss), logs, engine::median(logs), kLeastDeviation, kLogDeviations);
}

}  // namespace

std::optional<double> LossSpikes::take(double loss) {
  if (!std::isfinite(loss)) return std::nullopt;
  std::optional<double> spike;
  if (quiet_ > 0) --quiet_;
  if (last_.size() >= kLeast) {
    const std::vector<double> before(last_.begin(), last_.end());
    const double middle = engine::median(before);
    // Where it stays up there, once is enough.
    if (quiet_ == 0 && is_spike(loss, before, middle)) {
      spike = middle;
      quiet_ = kLeast;
    }
  }
  last_.push_back(loss);
  if (last_.size() > kWindow) last_.pop_front();
  return spike;
}

}  // namespace hadal::launch
