#include "engine/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "engine/glob.hpp"
#include "kernels/adamw.hpp"
#include "kernels/average.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/canonical_sum.hpp"
#include "kernels/lamb.hpp"
#include "kernels/norm.hpp"
#include "kernels/sgd.hpp"

namespace hadal::engine {
namespace {

// Large enough to amortise the hand-over to a worker, small enough to share out.
constexpr std::int64_t kRunElements = std::int64_t{1} << 18;
// You et al. 2017, "Large batch training of convolutional networks", section 5.
constexpr double kLarsTrust = 0.001;
constexpr const char* kMaster = "master";
constexpr const char* kAverage = "average";

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
  Setting setting{.weight_decay = decays ? options.weight_decay : 0.0, .decays = decays};
  if (const GroupOptions* group = group_of(options, entry.name)) {
    setting.lr_scale = group->lr_scale;
    if (group->weight_decay) setting.weight_decay = *group->weight_decay;
    if (group->freeze && group->until) {
      setting.frozen_updates = static_cast<std::int64_t>(group->until->value);
    }
  }
  return setting;
}

std::vector<std::string> Optimizer::state_names(const OptimizerOptions& options, Wire wire) {
  std::vector<std::string> names;
  if (options.kind == OptimizerKind::adamw || options.kind == OptimizerKind::lamb) {
    names = {"exp_avg", "exp_avg_sq"};
  } else if (options.momentum != 0) {
    names = {"momentum_buffer"};
  }
  if (wire == Wire::bfloat16) names.emplace_back(kMaster);
  if (options.average) names.emplace_back(kAverage);
  return names;
}

Optimizer::Optimizer(const OptimizerOptions& options, const ArenaLayout& layout, int rank,
                     int ranks, Wire wire, std::span<const std::uint8_t> reached)
    : options_(options),
      has_masters_(wire == Wire::bfloat16),
      state_names_(state_names(options, wire)),
      blocks_(layout.blocks()),
      ratios_(layout.entries().size(), 1.0f) {
  for (const ArenaEntry& entry : layout.entries()) {
    settings_.push_back(setting_of(options, entry));
    if (!reached.empty()) settings_.back().reached = reached[settings_.size() - 1] != 0;
  }
  // What starts as a copy of the parameters stands last: masters, then the average.
  const auto copies = std::ranges::find_if(
      state_names_, [](const std::string& name) { return name == kMaster || name == kAverage; });
  master_ = static_cast<std::size_t>(copies - state_names_.begin());
  std::size_t owned_blocks = 0;
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
                         (!has_ratios() || last->entry == block.entry) &&
                         last->count < kRunElements;
      if (!joins) {
        runs_.push_back({.begin = block.offset,
                         .state = owned + block.offset - slice.begin,
                         .entry = block.entry,
                         .first_block = k,
                         .owned_block = owned_blocks});
        last = &runs_.back();
      }
      last->count = end - last->begin;
      last->last_block = k + 1;
      ++owned_blocks;
    }
    owned += slice.count();
  }
  bucket_starts_.push_back(owned);
  if (has_ratios()) measured_.resize(2 * owned_blocks);
  for (std::size_t s = 0; s < state_names_.size(); ++s) states_.emplace_back(owned);
  if (!has_masters_) return;
  change_.resize(static_cast<std::size_t>(owned));
  for (std::size_t b = 0; b + 1 < bucket_starts_.size(); ++b) {
    changes_.push_back(std::span<const std::uint16_t>(change_).subspan(
        static_cast<std::size_t>(bucket_starts_[b]),
        static_cast<std::size_t>(bucket_starts_[b + 1] - bucket_starts_[b])));
  }
}

std::span<float> Optimizer::state(std::size_t number, std::size_t bucket) {
  return states_[number].subspan(bucket_starts_[bucket], bucket_starts_[bucket + 1]);
}

void Optimizer::measure(std::int64_t number, std::span<const float> parameters,
                        std::span<const float> gradient, double lr, std::int64_t update,
                        float grad_scale) {
  const Run& run = runs_[static_cast<std::size_t>(number)];
  if (!trains(run.entry, update)) return;
  const kernels::LambStep step = lamb_step_of(run.entry, lr, update, grad_scale);
  double* sums = measured_.data() + 2 * run.owned_block;
  std::array<float, kernels::kNormBlock> memory;
  for (std::size_t k = run.first_block; k < run.last_block; ++k, sums += 2) {
    const auto begin = static_cast<std::size_t>(blocks_[k].offset);
    const auto count = static_cast<std::size_t>(blocks_[k].count);
    const std::span<const float> param = has_masters_
                                             ? master(run, blocks_[k].offset - run.begin, count)
                                             : parameters.subspan(begin, count);
    const std::span<const float> grad = gradient.subspan(begin, count);
    sums[0] = kernels::sum_of_squares(param);
    if (options_.kind == OptimizerKind::lars) {
      const double scale = static_cast<double>(grad_scale);
      sums[1] = kernels::sum_of_squares(grad) * scale * scale;
      continue;
    }
    const std::int64_t state = run.state + blocks_[k].offset - run.begin;
    const std::span<float> first = states_[0].subspan(state, state + blocks_[k].count);
    const std::span<float> second = states_[1].subspan(state, state + blocks_[k].count);
    const std::span<float> change = std::span(memory).first(count);
    kernels::lamb_moments(grad, first, second, step);
    kernels::lamb_update(change, param, first, second, step);
    sums[1] = kernels::sum_of_squares(change);
  }
}

void Optimizer::set_ratios(const ArenaLayout& layout, std::span<const double> sums) {
  std::vector<std::array<double, 2>> entries(layout.entries().size(), {0.0, 0.0});
  for (std::size_t k = 0; k < blocks_.size(); ++k) {
    for (const std::size_t i : {0u, 1u}) entries[blocks_[k].entry][i] += sums[2 * k + i];
  }
  for (std::size_t e = 0; e < entries.size(); ++e) {
    const double weight = std::sqrt(entries[e][0]);
    const double change = std::sqrt(entries[e][1]);
    double ratio = 1;
    if (settings_[e].decays && weight > 0 && change > 0) {
      ratio = options_.kind == OptimizerKind::lamb
                  ? weight / change
                  : kLarsTrust * weight / (change + settings_[e].weight_decay * weight);
    }
    ratios_[e] = static_cast<float>(ratio);
  }
}

kernels::AdamwStep Optimizer::adamw_step_of(std::size_t entry, double lr, std::int64_t update,
                                            float grad_scale) const {
  const Setting& setting = settings_[entry];
  return kernels::adamw_step({.lr = lr * setting.lr_scale,
                              .beta1 = options_.beta1,
                              .beta2 = options_.beta2,
                              .eps = options_.eps,
                              .weight_decay = setting.weight_decay},
                             update - setting.frozen_updates, grad_scale);
}

// LARS is SGD with the decayed gradient scaled; a ratio of 1 leaves SGD's bits.
kernels::SgdStep Optimizer::sgd_step_of(std::size_t entry, double lr, float grad_scale) const {
  const float ratio = ratios_[entry];
  return {.lr = static_cast<float>(lr * settings_[entry].lr_scale),
          .momentum = static_cast<float>(options_.momentum),
          .weight_decay = static_cast<float>(settings_[entry].weight_decay) * ratio,
          .grad_scale = grad_scale * ratio,
          .nesterov = options_.nesterov};
}

float Optimizer::lamb_factor_of(std::size_t entry, double lr) const {
  return -static_cast<float>(lr * settings_[entry].lr_scale) * ratios_[entry];
}

kernels::LambStep Optimizer::lamb_step_of(std::size_t entry, double lr, std::int64_t update,
                                          float grad_scale) const {
  const Setting& setting = settings_[entry];
  return kernels::lamb_step({.lr = lr,
                             .beta1 = options_.beta1,
                             .beta2 = options_.beta2,
                             .eps = options_.eps,
                             .weight_decay = setting.weight_decay},
                            update - setting.frozen_updates, grad_scale);
}

void Optimizer::update(std::int64_t number, std::span<float> parameters,
                       std::span<std::uint16_t> rounded, std::span<const float> gradient, double lr,
                       std::int64_t update, float grad_scale) {
  const Run& run = runs_[static_cast<std::size_t>(number)];
  if (!trains(run.entry, update)) return;
  // Whatever comes after the update finds the parameters in the core's cache.
  const bool more = has_average() || has_masters_ || !rounded.empty();
  const std::int64_t piece = more ? kernels::kNormBlock : run.count;
  for (std::int64_t at = 0; at < run.count; at += piece) {
    const auto begin = static_cast<std::size_t>(run.begin + at);
    const std::int64_t length = std::min(piece, run.count - at);
    const auto count = static_cast<std::size_t>(length);
    const std::span<float> used = parameters.subspan(begin, count);
    const std::span<float> param = has_masters_ ? master(run, at, count) : used;
    update_piece(run, run.state + at, param, gradient.subspan(begin, count), lr, update,
                 grad_scale);
    if (has_masters_) {
      const auto state = static_cast<std::size_t>(run.state + at);
      kernels::follow(used, std::span(change_).subspan(state, count), param);
    }
    if (!rounded.empty()) kernels::to_bfloat16(rounded.subspan(begin, count), used);
    if (!has_average()) continue;
    kernels::move_average(states_.back().subspan(run.state + at, run.state + at + length), param,
                          static_cast<float>(1 - *options_.average));
  }
}

// `at`: of the first element in the owned state.
void Optimizer::update_piece(const Run& run, std::int64_t at, std::span<float> param,
                             std::span<const float> grad, double lr, std::int64_t update,
                             float grad_scale) {
  const auto state = [&](std::size_t s) {
    return states_[s].subspan(at, at + static_cast<std::int64_t>(param.size()));
  };
  if (options_.kind == OptimizerKind::adamw) {
    kernels::adamw(param, grad, state(0), state(1),
                   adamw_step_of(run.entry, lr, update, grad_scale));
    return;
  }
  if (options_.kind == OptimizerKind::lamb) {
    const kernels::LambStep step = lamb_step_of(run.entry, lr, update, grad_scale);
    std::array<float, kernels::kNormBlock> memory;
    for (std::size_t i = 0; i < param.size(); i += memory.size()) {
      const std::size_t length = std::min(memory.size(), param.size() - i);
      const std::span<float> change = std::span(memory).first(length);
      kernels::lamb_update(change, param.subspan(i, length), state(0).subspan(i, length),
                           state(1).subspan(i, length), step);
      kernels::add_scaled(param.subspan(i, length), lamb_factor_of(run.entry, lr), change);
    }
    return;
  }
  kernels::sgd(param, grad, options_.momentum == 0 ? std::span<float>() : state(0),
               sgd_step_of(run.entry, lr, grad_scale));
}

void Optimizer::start_from(std::span<const float> parameters) {
  for (std::size_t s = master_; s < states_.size(); ++s) {
    for (const Run& run : runs_) {
      const std::span<const float> from = parameters.subspan(static_cast<std::size_t>(run.begin),
                                                             static_cast<std::size_t>(run.count));
      std::copy(from.begin(), from.end(),
                states_[s].subspan(run.state, run.state + run.count).begin());
    }
  }
}

void Optimizer::swap_average(std::span<float> parameters, std::span<std::uint16_t> rounded) {
  for (const Run& run : runs_) {
    const auto begin = static_cast<std::size_t>(run.begin);
    const auto count = static_cast<std::size_t>(run.count);
    const std::span<float> values = parameters.subspan(begin, count);
    std::swap_ranges(values.begin(), values.end(),
                     states_.back().subspan(run.state, run.state + run.count).begin());
    if (!rounded.empty()) kernels::to_bfloat16(rounded.subspan(begin, count), values);
  }
}

}  // namespace hadal::engine
