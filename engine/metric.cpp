#include "engine/metric.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "io/error.hpp"

namespace hadal::engine {
namespace {

std::optional<std::int64_t> top_k(const std::string& metric) {
  if (metric == "accuracy") return 1;
  if (!metric.starts_with("top") || !metric.ends_with("_accuracy")) return std::nullopt;
  std::int64_t k = 0;
  const char* begin = metric.data() + 3;
  const char* end = metric.data() + metric.size() - 9;
  const auto parsed = std::from_chars(begin, end, k);
  return parsed.ec == std::errc{} && parsed.ptr == end && k > 0 ? std::optional(k) : std::nullopt;
}

std::vector<double> values_of(const at::Tensor& tensor) {
  const at::Tensor here = tensor.to(at::kCPU).contiguous();
  const double* first = here.const_data_ptr<double>();
  return {first, first + here.numel()};
}

// The labels that count, with their scores: [labels, classes] and [labels], whatever trailing axes
// the two had.
struct Labelled {
  at::Tensor scores;
  at::Tensor labels;
};

Labelled labelled(const at::Tensor& output, const at::Tensor& target, const LossOptions& options) {
  const at::Tensor last = has_classes_last(output, target) ? output : output.movedim(1, -1);
  const at::Tensor labels = target.flatten();
  const at::Tensor counted = labels.ne(options.ignore_index).nonzero().flatten();
  return {last.reshape({-1, last.size(-1)}).index_select(0, counted),
          labels.index_select(0, counted)};
}

class ClassAccuracy : public Metric {
 public:
  ClassAccuracy(std::int64_t k, const LossOptions& options) : k_(k), options_(options) {}

  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    // A label is among the top k where fewer than k classes score higher; ties with lower classes
    // count as higher, so the result does not depend on a sort.
    const auto [scores, labels] = labelled(output, target, options_);
    const at::Tensor label = labels.unsqueeze(1);
    const at::Tensor score = scores.gather(1, label);
    const at::Tensor classes =
        at::arange(scores.size(1), scores.options().dtype(at::kLong)).unsqueeze(0);
    const at::Tensor above =
        scores.gt(score).logical_or(scores.eq(score).logical_and(classes.lt(label)));
    return {sum_of(above.sum(1).lt(k_)), static_cast<double>(labels.numel())};
  }
  double value(std::span<const double> s) const override { return s[0] / s[1]; }

 private:
  std::int64_t k_;
  LossOptions options_;
};

// Of independent labels: a logit above 0 says yes.
class BinaryAccuracy : public Metric {
 public:
  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor wanted = shaped_like(target, output);
    return {sum_of(output.gt(0).eq(wanted.gt(0.5))), static_cast<double>(wanted.numel())};
  }
  double value(std::span<const double> s) const override { return s[0] / s[1]; }
};

class ErrorMetric : public Metric {
 public:
  enum class Kind { absolute, root_square, r_squared };
  explicit ErrorMetric(Kind kind) : kind_(kind) {}

  bool larger_is_better() const override { return kind_ == Kind::r_squared; }
  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor wanted = shaped_like(target, output).to(at::kDouble);
    const at::Tensor error = output.to(at::kDouble) - wanted;
    return {sum_of(kind_ == Kind::absolute ? error.abs() : error.square()),
            static_cast<double>(wanted.numel()), sum_of(wanted), sum_of(wanted.square())};
  }
  double value(std::span<const double> s) const override {
    if (kind_ == Kind::absolute) return s[0] / s[1];
    if (kind_ == Kind::root_square) return std::sqrt(s[0] / s[1]);
    return 1 - s[0] / (s[3] - s[2] * s[2] / s[1]);
  }

 private:
  Kind kind_;
};

// exp of the mean negative log-likelihood, without class weights or smoothing.
class Perplexity : public Metric {
 public:
  explicit Perplexity(const LossOptions& options) : options_(options) {}
  bool larger_is_better() const override { return false; }
  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    const auto [scores, labels] = labelled(output, target, options_);
    const at::Tensor losses =
        at::cross_entropy_loss(scores, labels, {}, at::Reduction::None, options_.ignore_index, 0.0);
    return {sum_of(losses), static_cast<double>(labels.numel())};
  }
  double value(std::span<const double> s) const override { return std::exp(s[0] / s[1]); }

 private:
  LossOptions options_;
};

// What is made of the table of true against predicted classes.
class ConfusionMetric : public Metric {
 public:
  enum class Kind { table, f1_macro, f1_micro, iou };
  ConfusionMetric(Kind kind, const LossOptions& options) : kind_(kind), options_(options) {}

  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    const auto [scores, labels] = labelled(output, target, options_);
    const std::int64_t classes = scores.size(1);
    const at::Tensor cells = labels * classes + scores.argmax(1);
    const at::Tensor counts = at::bincount(cells, {}, classes * classes).to(at::kDouble);
    return values_of(counts);
  }

  // Classes that are neither there nor predicted count for nothing, as in scikit-learn's f1_score
  // and jaccard_score over the labels present.
  double value(std::span<const double> counts) const override {
    const auto classes = static_cast<std::size_t>(std::lround(std::sqrt(counts.size())));
    double hits = 0, all = 0, sum = 0;
    std::size_t present = 0;
    for (std::size_t c = 0; c < classes; ++c) {
      double row = 0, column = 0;
      for (std::size_t k = 0; k < classes; ++k) {
        row += counts[c * classes + k];
        column += counts[k * classes + c];
      }
      const double both = counts[c * classes + c];
      hits += both;
      all += row;
      if (row + column == 0) continue;
      ++present;
      sum += kind_ == Kind::iou ? both / (row + column - both) : 2 * both / (row + column);
    }
    if (kind_ == Kind::f1_macro || kind_ == Kind::iou) return sum / static_cast<double>(present);
    // Over single labels, micro-averaged F1 is the accuracy; so is the table's one number.
    return hits / all;
  }

  std::vector<std::vector<std::int64_t>> table(std::span<const double> counts) const override {
    if (kind_ != Kind::table) return {};
    const auto classes = static_cast<std::size_t>(std::lround(std::sqrt(counts.size())));
    std::vector<std::vector<std::int64_t>> rows(classes);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      rows[i / classes].push_back(static_cast<std::int64_t>(counts[i]));
    }
    return rows;
  }

 private:
  Kind kind_;
  LossOptions options_;
};

// F1 and IoU of independent labels: true positives, false positives, false negatives a label.
class LabelMetric : public Metric {
 public:
  enum class Kind { f1_macro, f1_micro, iou };
  explicit LabelMetric(Kind kind) : kind_(kind) {}

  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    const at::Tensor yes = output.gt(0).flatten(1).unsqueeze(-1).flatten(2);
    const at::Tensor wanted =
        shaped_like(target, output).gt(0.5).flatten(1).unsqueeze(-1).flatten(2);
    const auto count = [](const at::Tensor& t) { return t.sum(0).flatten().to(at::kDouble); };
    const at::Tensor all =
        at::stack({count(yes.logical_and(wanted)), count(yes.logical_and(wanted.logical_not())),
                   count(wanted.logical_and(yes.logical_not()))})
            .contiguous();
    return values_of(all);
  }

  double value(std::span<const double> s) const override {
    const std::size_t labels = s.size() / 3;
    const auto score = [&](double hit, double wrong, double missed) {
      return kind_ == Kind::iou ? hit / (hit + wrong + missed)
                                : 2 * hit / (2 * hit + wrong + missed);
    };
    double hit = 0, wrong = 0, missed = 0, sum = 0;
    std::size_t present = 0;
    for (std::size_t l = 0; l < labels; ++l) {
      const double h = s[l], w = s[labels + l], m = s[2 * labels + l];
      hit += h;
      wrong += w;
      missed += m;
      if (h + w + m == 0) continue;
      sum += score(h, w, m);
      ++present;
    }
    return kind_ == Kind::f1_micro ? score(hit, wrong, missed) : sum / static_cast<double>(present);
  }

 private:
  Kind kind_;
};

// Area under the ROC curve, one class or label against the rest, averaged over those that occur
// both ways: the share of pairs in the right order, ties counted half (Mann-Whitney U), over all
// samples.
class Auroc : public Metric {
 public:
  explicit Auroc(const Loss& loss) : options_(loss.options()), classes_(loss.counts_classes()) {}
  bool collects() const override { return true; }

  // Triples: class or label, score, 1 where it is the true one.
  std::vector<double> sums(const at::Tensor& output, const at::Tensor& target) const override {
    at::Tensor scores, truth;
    if (classes_) {
      const auto [logits, labels] = labelled(output, target, options_);
      scores = at::softmax(logits, 1);
      truth = labels.unsqueeze(1).eq(
          at::arange(scores.size(1), scores.options().dtype(at::kLong)).unsqueeze(0));
    } else {
      scores = output.flatten(1).reshape({output.size(0), -1});
      truth = shaped_like(target, output).gt(0.5).reshape({output.size(0), -1});
    }
    const at::Tensor number = at::arange(scores.size(1), scores.options().dtype(at::kDouble))
                                  .unsqueeze(0)
                                  .expand(scores.sizes());
    const at::Tensor all =
        at::stack({number, scores.to(at::kDouble), truth.to(at::kDouble)}, 2).contiguous();
    return values_of(all);
  }

  double value(std::span<const double> triples) const override {
    std::map<double, std::vector<std::pair<double, bool>>> by_class;
    for (std::size_t i = 0; i + 2 < triples.size(); i += 3) {
      by_class[triples[i]].emplace_back(triples[i + 1], triples[i + 2] != 0);
    }
    double sum = 0;
    std::size_t counted = 0;
    for (auto& [number, scores] : by_class) {
      const double area = area_of(scores);
      if (std::isnan(area)) continue;
      sum += area;
      ++counted;
    }
    return sum / static_cast<double>(counted);
  }

 private:
  static double area_of(std::vector<std::pair<double, bool>>& scores) {
    std::sort(scores.begin(), scores.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    double positives = 0, rank_sum = 0;
    for (std::size_t i = 0; i < scores.size();) {
      std::size_t end = i;
      double positives_here = 0;
      for (; end < scores.size() && scores[end].first == scores[i].first; ++end) {
        positives_here += scores[end].second ? 1 : 0;
      }
      // Ranks count from 1; equal scores share their mean rank.
      rank_sum += positives_here * (static_cast<double>(i + end + 1) / 2);
      positives += positives_here;
      i = end;
    }
    const double negatives = static_cast<double>(scores.size()) - positives;
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
  }

  LossOptions options_;
  bool classes_;
};

std::unique_ptr<Metric> class_metric(const std::string& name, const LossOptions& options) {
  using Kind = ConfusionMetric::Kind;
  if (const auto k = top_k(name)) return std::make_unique<ClassAccuracy>(*k, options);
  if (name == "perplexity") return std::make_unique<Perplexity>(options);
  if (name == "confusion") return std::make_unique<ConfusionMetric>(Kind::table, options);
  if (name == "f1_macro") return std::make_unique<ConfusionMetric>(Kind::f1_macro, options);
  if (name == "f1_micro") return std::make_unique<ConfusionMetric>(Kind::f1_micro, options);
  if (name == "iou") return std::make_unique<ConfusionMetric>(Kind::iou, options);
  return nullptr;
}

std::unique_ptr<Metric> label_metric(const std::string& name) {
  using Kind = LabelMetric::Kind;
  if (name == "accuracy") return std::make_unique<BinaryAccuracy>();
  if (name == "f1_macro") return std::make_unique<LabelMetric>(Kind::f1_macro);
  if (name == "f1_micro") return std::make_unique<LabelMetric>(Kind::f1_micro);
  if (name == "iou") return std::make_unique<LabelMetric>(Kind::iou);
  return nullptr;
}

std::unique_ptr<Metric> error_metric(const std::string& name) {
  using Kind = ErrorMetric::Kind;
  if (name == "mae") return std::make_unique<ErrorMetric>(Kind::absolute);
  if (name == "rmse") return std::make_unique<ErrorMetric>(Kind::root_square);
  if (name == "r2") return std::make_unique<ErrorMetric>(Kind::r_squared);
  return nullptr;
}

}  // namespace

std::vector<std::string> metric_names() {
  return {"accuracy", "top<k>_accuracy", "f1_macro", "f1_micro", "iou", "confusion",
          "auroc",    "perplexity",      "mae",      "rmse",     "r2"};
}

bool is_metric(const std::string& name) {
  const std::vector<std::string> names = metric_names();
  return top_k(name) || std::find(names.begin(), names.end(), name) != names.end();
}

std::unique_ptr<Metric> make_metric(const std::string& name, const Loss& loss) {
  std::unique_ptr<Metric> metric;
  const LossKind kind = loss.options().kind;
  if (name == "auroc" &&
      (kind == LossKind::cross_entropy || kind == LossKind::binary_cross_entropy)) {
    return std::make_unique<Auroc>(loss);
  }
  switch (kind) {
    case LossKind::cross_entropy:
      metric = class_metric(name, loss.options());
      break;
    case LossKind::dice:
      metric =
          loss.options().class_targets ? class_metric(name, loss.options()) : label_metric(name);
      break;
    case LossKind::binary_cross_entropy:
      metric = label_metric(name);
      break;
    default:
      metric = error_metric(name);
  }
  if (metric) return metric;
  throw io::Error(io::ErrorKind::config,
                  is_metric(name)
                      ? fmt::format("objective.metrics: \"{}\" does not fit the loss", name)
                      : fmt::format("objective.metrics: \"{}\" is not known; known are: {}", name,
                                    fmt::join(metric_names(), ", ")));
}

}  // namespace hadal::engine
