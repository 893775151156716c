#include "engine/objective.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "io/error.hpp"

namespace hadal::engine {
namespace {

// Every metric keeps this many sums: enough for R^2 (squared error, sum, sum of squares, count).
constexpr std::size_t kSums = 4;

std::optional<std::int64_t> top_k(const std::string& metric) {
  if (metric == "accuracy") return 1;
  if (!metric.starts_with("top") || !metric.ends_with("_accuracy")) return std::nullopt;
  std::int64_t k = 0;
  const char* begin = metric.data() + 3;
  const char* end = metric.data() + metric.size() - 9;
  const auto parsed = std::from_chars(begin, end, k);
  return parsed.ec == std::errc{} && parsed.ptr == end && k > 0 ? std::optional(k) : std::nullopt;
}

at::Tensor class_weight_tensor(const ObjectiveOptions& options) {
  if (options.class_weights.empty()) return {};
  return at::tensor(options.class_weights, at::kFloat);
}

// Targets of shape [count] for outputs of shape [count, 1], and the like.
at::Tensor shaped_like(const at::Tensor& target, const at::Tensor& output) {
  return target.sizes() == output.sizes() ? target : target.view_as(output);
}

at::Tensor elementwise_loss(const ObjectiveOptions& options, const at::Tensor& output,
                            const at::Tensor& stored_target, at::Reduction::Reduction reduction) {
  if (options.loss == LossKind::cross_entropy) {
    return at::cross_entropy_loss(output, stored_target, class_weight_tensor(options), reduction,
                                  options.ignore_index, options.label_smoothing);
  }
  const at::Tensor target = shaped_like(stored_target, output);
  switch (options.loss) {
    case LossKind::mean_squared_error:
      return at::mse_loss(output, target, reduction);
    case LossKind::mean_absolute_error:
      return at::l1_loss(output, target, reduction);
    case LossKind::huber:
      return at::huber_loss(output, target, reduction, options.huber_delta);
    default:
      return at::binary_cross_entropy_with_logits(output, target, {}, {}, reduction);
  }
}

double total(const at::Tensor& tensor) { return tensor.to(at::kDouble).sum().item<double>(); }

// [hits, labels]
void add_accuracy(std::int64_t k, const ObjectiveOptions& options, const at::Tensor& output,
                  const at::Tensor& target, double* out) {
  if (options.loss == LossKind::binary_cross_entropy) {
    const at::Tensor wanted = shaped_like(target, output);
    out[0] = total(output.gt(0).eq(wanted.gt(0.5)));
    out[1] = static_cast<double>(wanted.numel());
    return;
  }
  const at::Tensor counted = target.ne(options.ignore_index);
  // A label is among the top k where fewer than k classes score higher; ties with lower classes
  // count as higher, so the result does not depend on a sort.
  const at::Tensor label = target.clamp_min(0).unsqueeze(1);
  const at::Tensor score = output.gather(1, label);
  std::vector<std::int64_t> broadcast(static_cast<std::size_t>(output.dim()), 1);
  broadcast[1] = output.size(1);
  const at::Tensor classes = at::arange(output.size(1), at::kLong).view(broadcast);
  const at::Tensor above =
      output.gt(score).logical_or(output.eq(score).logical_and(classes.lt(label)));
  out[0] = total(above.sum(1).lt(k).logical_and(counted));
  out[1] = total(counted);
}

// [absolute error, squared error, …] as the metric needs
void add_errors(const std::string& metric, const at::Tensor& output, const at::Tensor& target,
                double* out) {
  const at::Tensor wanted = shaped_like(target, output).to(at::kDouble);
  const at::Tensor error = output.to(at::kDouble) - wanted;
  out[0] = metric == "mae" ? total(error.abs()) : total(error.square());
  out[1] = static_cast<double>(wanted.numel());
  out[2] = total(wanted);
  out[3] = total(wanted.square());
}

}  // namespace

bool is_metric(const std::string& name) {
  return top_k(name) || name == "mae" || name == "rmse" || name == "r2";
}

bool larger_is_better(const std::string& metric) {
  return top_k(metric).has_value() || metric == "r2";
}

Objective::Objective(const ObjectiveOptions& options) : options_(options), metrics_{"loss"} {
  const bool classes = options.loss == LossKind::cross_entropy;
  const auto refuse = [](const std::string& key) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("objective.{} belongs to the loss \"cross_entropy\" only", key));
  };
  if (!classes && options.label_smoothing != 0) refuse("label_smoothing");
  if (!classes && !options.class_weights.empty()) refuse("class_weights");
  for (const std::string& metric : options.metrics) {
    const bool counts_classes = top_k(metric).has_value();
    const bool fits = counts_classes ? classes || (options.loss == LossKind::binary_cross_entropy &&
                                                   top_k(metric) == 1)
                                     : !classes;
    if (!fits) {
      throw io::Error(io::ErrorKind::config,
                      fmt::format("objective.metrics: \"{}\" does not fit the loss", metric));
    }
    metrics_.push_back(metric);
  }
}

double Objective::weight(const io::Batch& batch) const {
  if (options_.loss != LossKind::cross_entropy) return static_cast<double>(batch.count());
  const io::FieldBatch& labels = batch.targets.front();
  const std::size_t count = labels.bytes.size() / sizeof(std::int64_t);
  double weight = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::int64_t label = 0;
    std::memcpy(&label, labels.bytes.data() + i * sizeof label, sizeof label);
    if (label == options_.ignore_index) continue;
    weight += options_.class_weights.empty()
                  ? 1.0
                  : options_.class_weights.at(static_cast<std::size_t>(label));
  }
  // A per-pixel loss still divides by samples where every pixel counts: only ratios matter.
  return weight;
}

at::Tensor Objective::loss(std::span<const at::Tensor> outputs,
                           std::span<const at::Tensor> targets) const {
  return elementwise_loss(options_, outputs[0], targets[0], at::Reduction::Mean);
}

std::size_t Objective::sum_count() const { return kSums * metrics_.size(); }

std::vector<double> Objective::sums(std::span<const at::Tensor> outputs,
                                    std::span<const at::Tensor> targets) const {
  std::vector<double> all(sum_count(), 0.0);
  const at::Tensor losses = elementwise_loss(options_, outputs[0], targets[0], at::Reduction::None);
  all[0] = total(losses);
  all[1] = static_cast<double>(losses.numel());
  if (options_.loss == LossKind::cross_entropy) {
    const at::Tensor counted = targets[0].ne(options_.ignore_index);
    const at::Tensor weights = class_weight_tensor(options_);
    all[1] =
        weights.defined()
            ? total(weights.index_select(0, targets[0].clamp_min(0).flatten()) * counted.flatten())
            : total(counted);
  }
  for (std::size_t m = 1; m < metrics_.size(); ++m) {
    double* out = all.data() + kSums * m;
    if (const auto k = top_k(metrics_[m])) {
      add_accuracy(*k, options_, outputs[0], targets[0], out);
    } else {
      add_errors(metrics_[m], outputs[0], targets[0], out);
    }
  }
  return all;
}

std::vector<double> Objective::values(std::span<const double> sums) const {
  std::vector<double> result;
  for (std::size_t m = 0; m < metrics_.size(); ++m) {
    const double* s = sums.data() + kSums * m;
    const double mean = s[0] / s[1];
    if (metrics_[m] == "rmse") {
      result.push_back(std::sqrt(mean));
    } else if (metrics_[m] == "r2") {
      result.push_back(1 - s[0] / (s[3] - s[2] * s[2] / s[1]));
    } else {
      result.push_back(mean);
    }
  }
  return result;
}

void Objective::check_shapes(const at::Tensor& output, const at::Tensor& target) const {
  const auto shape = [](const at::Tensor& t) {
    return io::to_string(io::Shape(t.sizes().begin() + 1, t.sizes().end()));
  };
  const auto fail = [&](const std::string& why) {
    throw io::Error(
        io::ErrorKind::data,
        fmt::format("the model's output for a sample has the shape {}, the target {}: {}",
                    shape(output), shape(target), why));
  };
  if (options_.loss != LossKind::cross_entropy) {
    if (output.numel() != target.numel()) fail("they must hold equally many values");
    return;
  }
  if (output.dim() != target.dim() + 1) {
    fail(
        "cross_entropy needs [classes, …] and class indices […]; labels stored one-hot need "
        "one_hot = "
        "true");
  }
  if (!options_.class_weights.empty() &&
      output.size(1) != static_cast<std::int64_t>(options_.class_weights.size())) {
    fail(fmt::format("objective.class_weights has {} values", options_.class_weights.size()));
  }
}

}  // namespace hadal::engine
