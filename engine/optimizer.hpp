#pragma once
// The optimizer on the slices that a rank owns: its state covers those only (1 / ranks of the
// whole), its update is one pass of a fused kernel.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/arena.hpp"
#include "engine/run_config.hpp"
#include "kernels/lamb.hpp"
#include "kernels/sgd.hpp"

namespace hadal::engine {

// The group that holds for a parameter: the last one that matches its name, or nothing.
const GroupOptions* group_of(const OptimizerOptions& options, const std::string& name);

// What an update has added to the owned slices, bucket by bucket, in bfloat16.
using Changes = std::vector<std::span<const std::uint16_t>>;

class Optimizer {
 public:
  // `reached[e]` says whether a gradient ever reaches arena entry e; those it does not reach are
  // left alone, as PyTorch does. Empty: all. Groups must have their `until` in steps. Where
  // changes travel in bfloat16, what is updated are masters in float32; parameters follow them.
  Optimizer(const OptimizerOptions& options, const ArenaLayout& layout, int rank, int ranks,
            Wire wire = Wire::float32, std::span<const std::uint8_t> reached = {});

  // Names of the states in checkpoints: "momentum_buffer", or "exp_avg" and "exp_avg_sq", or none;
  // "master" where parameters follow masters, and "average" where a moving average is kept.
  const std::vector<std::string>& state_names() const { return state_names_; }
  static std::vector<std::string> state_names(const OptimizerOptions& options, Wire wire);

  const OptimizerOptions& options() const { return options_; }

  // All owned slices of a state, bucket by bucket.
  std::span<float> state(std::size_t number) { return states_[number].span(); }
  // The owned part of a state in bucket `bucket` (as many elements as the owned slice).
  std::span<float> state(std::size_t number, std::size_t bucket);

  // Masters and average begin with these parameters.
  void start_from(std::span<const float> parameters);

  bool has_average() const { return options_.average.has_value(); }
  // Exchanges the owned slices with the average of them; `rounded` is their copy in bfloat16, or
  // empty.
  void swap_average(std::span<float> parameters, std::span<std::uint16_t> rounded);

  // True where update `update` (from 1) changes arena entry `entry`.
  bool trains(std::size_t entry, std::int64_t update) const {
    return settings_[entry].reached && update > settings_[entry].frozen_updates;
  }

  // Owned runs that share one setting, cut so that workers can take them in parallel.
  std::int64_t run_count() const { return static_cast<std::int64_t>(runs_.size()); }

  // LAMB and LARS scale the update of each parameter by a ratio of norms: every rank measures the
  // blocks it owns, run by run, all ranks' sums together give the ratios, then update() follows.
  bool has_ratios() const {
    return options_.kind == OptimizerKind::lamb || options_.kind == OptimizerKind::lars;
  }
  // Two sums of squares for each owned block, in order: of the parameter, and of what will be
  // scaled (LAMB's update, whose moments are advanced here; LARS's gradient).
  std::span<const double> measured() const { return measured_; }
  void measure(std::int64_t number, std::span<const float> parameters,
               std::span<const float> gradient, double lr, std::int64_t update, float grad_scale);
  // Of all ranks, two sums for each block of the layout (see in_block_order()).
  void set_ratios(const ArenaLayout& layout, std::span<const double> sums);

  // How one update changes arena entry `entry`: what kernels want to know. `lr` is the schedule's.
  kernels::AdamwStep adamw_step_of(std::size_t entry, double lr, std::int64_t update,
                                   float grad_scale) const;
  kernels::SgdStep sgd_step_of(std::size_t entry, double lr, float grad_scale) const;
  kernels::LambStep lamb_step_of(std::size_t entry, double lr, std::int64_t update,
                                 float grad_scale) const;
  // What multiplies LAMB's update on its way into the parameter.
  float lamb_factor_of(std::size_t entry, double lr) const;

  // The state whose values parameters follow, if there is one.
  std::optional<std::size_t> master_state() const {
    return has_masters_ ? std::optional(master_) : std::nullopt;
  }
  // What the last update has added to the owned slices, where parameters follow masters, else null:
  // whoever adds it to the parameters before has them. Stays where it is.
  const Changes* changes() const { return has_masters_ ? &changes_ : nullptr; }

  // Updates run `number` of the parameter arena (and its copy, where it has one) from the gradient
  // arena. `update` counts from 1, `grad_scale` multiplies the gradient (clipping). Distinct runs
  // may be updated at once.
  void update(std::int64_t number, std::span<float> parameters, std::span<std::uint16_t> rounded,
              std::span<const float> gradient, double lr, std::int64_t update, float grad_scale);

 private:
  // How one parameter is updated.
  struct Setting {
    double weight_decay = 0;
    double lr_scale = 1;
    bool decays = true;  // else LAMB and LARS leave its scale alone, too
    std::int64_t frozen_updates = 0;
    bool reached = true;
    bool operator==(const Setting&) const = default;
  };
  struct Run {
    std::int64_t begin = 0;  // in the arena
    std::int64_t count = 0;
    std::int64_t state = 0;  // in the owned state
    std::size_t entry = 0;   // any one of its arena entries: all have the same setting
    std::size_t first_block = 0;
    std::size_t last_block = 0;
    std::size_t owned_block = 0;  // number of its first block among the owned ones
  };

  // Elements of a run, from element `at` of it on.
  std::span<float> master(const Run& run, std::int64_t at, std::size_t count) {
    const std::int64_t begin = run.state + at;
    return states_[master_].subspan(begin, begin + static_cast<std::int64_t>(count));
  }
  void update_piece(const Run& run, std::int64_t at, std::span<float> param,
                    std::span<const float> grad, double lr, std::int64_t update, float grad_scale);
  static Setting setting_of(const OptimizerOptions& options, const ArenaEntry& entry);

  OptimizerOptions options_;
  bool has_masters_;
  std::vector<Setting> settings_;  // by arena entry
  std::vector<std::string> state_names_;
  std::vector<AlignedBuffer> states_;
  std::size_t master_ = 0;             // number of that state, or of the average's
  std::vector<std::uint16_t> change_;  // as long as a state
  Changes changes_;                    // in it
  std::vector<Run> runs_;
  std::vector<ArenaBlock> blocks_;  // of the layout
  std::vector<double> measured_;
  std::vector<float> ratios_;                // by arena entry
  std::vector<std::int64_t> bucket_starts_;  // in the owned state, then its size
};

}  // namespace hadal::engine
