#pragma once
// Metrics of evaluation: each keeps float64 sums that add up over micro-batches and are divided
// once, at the end, so they are exact however the samples are shared out. A metric of ranks (auroc)
// collects its scores instead.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/loss.hpp"

namespace hadal::engine {

class Metric {
 public:
  virtual ~Metric() = default;
  // True where a larger value is better.
  virtual bool larger_is_better() const { return true; }
  // True where the numbers of micro-batches are put one behind the other instead of added up.
  virtual bool collects() const { return false; }
  // This micro-batch's sums.
  virtual std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const = 0;
  // From the added sums to the value.
  virtual double value(std::span<const double> sums) const = 0;
  // Classes times classes counts (rows: true class) where the metric is a table, else empty.
  virtual std::vector<std::vector<std::int64_t>> table(std::span<const double>) const { return {}; }
};

// Known names: accuracy, top<k>_accuracy, f1_macro, f1_micro, iou, confusion, auroc, perplexity,
// mae, rmse, r2. Throws a config error for one that is not known or does not fit the loss.
std::unique_ptr<Metric> make_metric(const std::string& name, const Loss& loss);

// The known names, for messages and checks; "top<k>_accuracy" stands for all k.
std::vector<std::string> metric_names();
bool is_metric(const std::string& name);

}  // namespace hadal::engine
