#include "engine/loss_scale.hpp"

namespace hadal::engine {
namespace {

// torch.amp.GradScaler's init_scale and growth_interval.
constexpr double kFirst = 65536;
constexpr std::int64_t kGoodSteps = 2000;
// A factor of a loss is float32; far above all that gradients can take.
constexpr double kMost = 0x1p100;

}  // namespace

LossScale LossScale::first(const TrainOptions& train) {
  return train.precision == Precision::float16 ? LossScale(kFirst, 0) : LossScale();
}

void LossScale::shrink() {
  value_ /= 2;
  good_steps_ = 0;
}

void LossScale::count_good() {
  if (good_steps_ < 0 || ++good_steps_ < kGoodSteps) return;
  if (value_ < kMost) value_ *= 2;
  good_steps_ = 0;
}

}  // namespace hadal::engine
