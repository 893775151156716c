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
// Of a normal distribution, for each of its median absolute deviations.
constexpr double kNormal = 1.4826;
// A loss that hardly changes has no deviation to speak of.
constexpr double kLeastDeviation = 0.05;

}  // namespace

std::optional<double> LossSpikes::take(double loss) {
  if (!std::isfinite(loss)) return std::nullopt;
  std::optional<double> spike;
  if (quiet_ > 0) --quiet_;
  if (last_.size() >= kLeast) {
    const std::vector<double> before(last_.begin(), last_.end());
    const double middle = engine::median(before);
    std::vector<double> deviations;
    for (const double each : before) deviations.push_back(std::abs(each - middle));
    const double deviation =
        std::max(kNormal * engine::median(deviations), kLeastDeviation * std::abs(middle));
    // Where it stays up there, once is enough.
    if (quiet_ == 0 && loss > middle + kDeviations * deviation) {
      spike = middle;
      quiet_ = kLeast;
    }
  }
  last_.push_back(loss);
  if (last_.size() > kWindow) last_.pop_front();
  return spike;
}

}  // namespace hadal::launch
