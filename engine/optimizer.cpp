#include "engine/optimizer.hpp"

#include "engine/glob.hpp"
#include "kernels/adamw.hpp"
#include "kernels/sgd.hpp"

namespace hadal::engine {
namespace {

// Large enough to amortise the hand-over to a worker, small enough to share out.
constexpr std::int64_t kRunElements = std::int64_t{1} << 18;

}  // namespace

const GroupOptions* group_of(const OptimizerOptions& options, const std::string& name) {
  const GroupOptions* found = nullptr;
  for (const GroupOptions& group : options.groups) {
    if (matches_any(group.match, name)) found = &group;
  }
  return found;
}

Optimizer::Setting Optimizer::setting_of(const OptimizerOptions& options, const ArenaEntry& entry) {
  const bool decays =
      options.no_decay ? !matches_any(*options.no_decay, entry.name) : entry.shape.size() >= 2;
  Setting setting{.weight_decay = decays ? options.weight_decay : 0.0};
  if (const GroupOptions* group = group_of(options, entry.name)) {
    setting.lr_scale = group->lr_scale;
    if (group->weight_decay) setting.weight_decay = *group->weight_decay;
    if (group->freeze && group->until) {
      setting.frozen_updates = static_cast<std::int64_t>(group->until->value);
    }
  }
  return setting;
}

Optimizer::Optimizer(const OptimizerOptions& options, const ArenaLayout& layout, int rank,
                     int ranks, std::span<const std::uint8_t> reached)
    : options_(options) {
  for (const ArenaEntry& entry : layout.entries()) {
    settings_.push_back(setting_of(options, entry));
    if (!reached.empty()) settings_.back().reached = reached[settings_.size() - 1] != 0;
  }
  if (options.kind == OptimizerKind::adamw) state_names_ = {"exp_avg", "exp_avg_sq"};
  if (options.kind == OptimizerKind::sgd && options.momentum != 0)
    state_names_ = {"momentum_buffer"};
  std::int64_t owned = 0;
  for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
    const ArenaSlice slice = layout.slice(b, rank, ranks);
    bucket_starts_.push_back(owned);
    for (std::size_t k = slice.first_block; k < slice.last_block; ++k) {
      const ArenaBlock& block = layout.blocks()[k];
      const std::int64_t end = k + 1 < slice.last_block ? layout.blocks()[k + 1].offset : slice.end;
      Run* last = runs_.empty() ? nullptr : &runs_.back();
      const bool joins = last != nullptr && last->begin + last->count == block.offset &&
                         settings_[last->entry] == settings_[block.entry] &&
                         last->count < kRunElements;
      if (!joins) {
        runs_.push_back({block.offset, 0, owned + block.offset - slice.begin, block.entry});
        last = &runs_.back();
      }
      last->count = end - last->begin;
    }
    owned += slice.count();
  }
  bucket_starts_.push_back(owned);
  for (std::size_t s = 0; s < state_names_.size(); ++s) states_.emplace_back(owned);
}

std::span<float> Optimizer::state(std::size_t number, std::size_t bucket) {
  return states_[number].subspan(bucket_starts_[bucket], bucket_starts_[bucket + 1]);
}

void Optimizer::update(std::int64_t number, std::span<float> parameters,
                       std::span<const float> gradient, double lr, std::int64_t update,
                       float grad_scale) {
  const Run& run = runs_[static_cast<std::size_t>(number)];
  if (!trains(run.entry, update)) return;
  const Setting& setting = settings_[run.entry];
  lr *= setting.lr_scale;
  const auto begin = static_cast<std::size_t>(run.begin);
  const auto count = static_cast<std::size_t>(run.count);
  const std::span<float> param = parameters.subspan(begin, count);
  const std::span<const float> grad = gradient.subspan(begin, count);
  const auto state = [&](std::size_t s) {
    return states_[s].subspan(run.state, run.state + run.count);
  };
  if (options_.kind == OptimizerKind::adamw) {
    const kernels::AdamwStep step =
        kernels::adamw_step({.lr = lr,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .eps = options_.eps,
                             .weight_decay = setting.weight_decay},
                            update - setting.frozen_updates, grad_scale);
    kernels::adamw(param, grad, state(0), state(1), step);
    return;
  }
  const kernels::SgdStep step{.lr = static_cast<float>(lr),
                              .momentum = static_cast<float>(options_.momentum),
                              .weight_decay = static_cast<float>(setting.weight_decay),
                              .grad_scale = grad_scale,
                              .nesterov = options_.nesterov};
  kernels::sgd(param, grad, states_.empty() ? std::span<float>() : state(0), step);
}

}  // namespace hadal::engine
