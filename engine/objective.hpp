#pragma once
// The loss and the metrics. A training loss is ATen's own mean over the micro-batch; what it
// divides by is the micro-batch's weight, so that the step can weigh micro-batches against each
// other. Evaluation sums in float64 and divides once, at the end.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/run_config.hpp"
#include "io/batch_reader.hpp"

namespace at {
class Tensor;
}

namespace hadal::engine {

class Objective {
 public:
  // Throws a config error for options that do not fit the loss.
  explicit Objective(const ObjectiveOptions& options);

  // Names of the sums that evaluation keeps, in order: "loss" first.
  const std::vector<std::string>& metrics() const { return metrics_; }

  // What the mean loss of this batch divides by: its samples, or for cross-entropy its labels that
  // are not ignored, each with its class's weight.
  double weight(const io::Batch& batch) const;

  // ATen's mean loss of a micro-batch: a scalar with gradient. outputs[0] is [count, …]; targets[0]
  // [count, …] class indices or values.
  at::Tensor loss(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets) const;

  // Number of float64 sums that a micro-batch's evaluation gives.
  std::size_t sum_count() const;
  // Those sums; sums of all micro-batches add up.
  std::vector<double> sums(std::span<const at::Tensor> outputs,
                           std::span<const at::Tensor> targets) const;
  // From the added sums to one value a metric (in the order of metrics()).
  std::vector<double> values(std::span<const double> sums) const;

  // Checks the first batch's shapes once, with messages for people. Throws a data error.
  void check_shapes(const at::Tensor& output, const at::Tensor& target) const;

 private:
  ObjectiveOptions options_;
  std::vector<std::string> metrics_;
};

// True where a larger value of the metric is better ("accuracy", not "loss").
bool larger_is_better(const std::string& metric);

// Known names: accuracy, top<k>_accuracy, mae, rmse, r2.
bool is_metric(const std::string& name);

}  // namespace hadal::engine
