#pragma once
// What a run minimises and measures: one loss, or a weighted sum of several over the model's
// outputs and the data's targets, each with its metrics.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/loss.hpp"
#include "engine/metric.hpp"

namespace hadal::engine {

class Objective {
 public:
  using Sums = std::vector<std::vector<double>>;

  // `targets`: the data's target fields, in order. Throws a config error for a term whose target
  // does not exist and for options that do not fit.
  Objective(const ObjectiveOptions& options, const std::vector<std::string>& targets);

  // Names of the values of evaluation, in order: "loss", then "TERM.loss" where there are several
  // terms, and the metrics ("TERM.metric").
  const std::vector<std::string>& metrics() const { return names_; }
  bool larger_is_better(const std::string& metric) const;

  std::size_t term_count() const { return terms_.size(); }

  // What each term's mean loss over this batch divides by; 0 where it has no mean.
  std::vector<double> weights(const io::Batch& batch) const;

  // The sum of the terms' mean losses, each times its factor (a float32 scalar) and its own weight
  // in the config; a term without factor is left out. A scalar with gradient.
  // `sample_weights`: float32 [count], or undefined.
  at::Tensor loss(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets,
                  const at::Tensor& sample_weights, std::span<const at::Tensor> factors) const;

  // A micro-batch's float64 sums: loss and weight of each term, then each metric's.
  Sums sums(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets,
            const at::Tensor& sample_weights) const;
  // The sums of two sets of micro-batches, those of `sum` before those of `addend`; an empty one is
  // none.
  Sums add(Sums sum, Sums addend) const;

  struct Values {
    std::vector<double> values;  // in the order of metrics()
    // Confusion tables by metric name.
    std::vector<std::pair<std::string, std::vector<std::vector<std::int64_t>>>> tables;
  };
  // From the added sums of all micro-batches.
  Values values(const Sums& sums) const;

  // Checks the first batch's shapes, with messages for people. Throws a data error.
  void check_shapes(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets) const;

 private:
  struct Term {
    std::string prefix;  // "NAME." or ""
    std::size_t target = 0;
    std::size_t output = 0;
    double weight = 1;
    Loss loss;
    std::vector<std::string> metric_names;
    std::vector<std::unique_ptr<Metric>> metrics;
  };

  std::vector<Term> terms_;
  std::vector<std::string> names_;
};

}  // namespace hadal::engine
