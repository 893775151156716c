#pragma once
// Keeps the gradients of a backward pass in float16 above the smallest numbers of that type: the
// losses, and with them all gradients, are multiplied by a power of two, which the update takes out
// again (Micikevicius et al. 2018, section 3.2). The rule is torch.amp.GradScaler's: half of it
// where a gradient has become too large, twice of it after many steps where none has. A power of
// two changes no bit of a number that stays inside its type's range, so a run's losses and norms
// are told without it.

#include <cstdint>

#include "engine/run_config.hpp"

namespace hadal::engine {

class LossScale {
 public:
  LossScale() = default;  // 1, which stays so
  LossScale(double value, std::int64_t good_steps) : value_(value), good_steps_(good_steps) {}

  // That a run begins with.
  static LossScale first(const TrainOptions& train);

  double value() const { return value_; }
  // Since it last changed; -1 where it never does.
  std::int64_t good_steps() const { return good_steps_; }

  // Whether a gradient that is not finite may be so for the scale alone.
  bool can_shrink() const { return good_steps_ >= 0 && value_ > 1; }
  void shrink();
  // After an update.
  void count_good();

 private:
  double value_ = 1;
  std::int64_t good_steps_ = -1;
};

}  // namespace hadal::engine
