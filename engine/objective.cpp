#include "engine/objective.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "io/error.hpp"

namespace hadal::engine {

Objective::Objective(const ObjectiveOptions& options, const std::vector<std::string>& targets)
    : names_{"loss"} {
  for (const TermOptions& term : options.terms) {
    const bool single = term.target.empty();
    const auto found = std::find(targets.begin(), targets.end(), term.target);
    if (!single && found == targets.end()) {
      throw io::Error(
          io::ErrorKind::config,
          fmt::format("objective.terms.{}: there is no data.targets.{}; the targets are: "
                      "{}",
                      term.target, term.target, fmt::join(targets, ", ")));
    }
    const std::size_t target = single ? 0 : static_cast<std::size_t>(found - targets.begin());
    Term made{.prefix = single ? "" : term.target + ".",
              .target = target,
              .output = term.output.value_or(target),
              .weight = term.weight,
              .loss = Loss(term.loss),
              .metric_names = term.metrics,
              .metrics = {}};
    for (const std::string& name : term.metrics)
      made.metrics.push_back(make_metric(name, made.loss));
    if (options.terms.size() > 1) names_.push_back(made.prefix + "loss");
    for (const std::string& name : term.metrics) names_.push_back(made.prefix + name);
    terms_.push_back(std::move(made));
  }
}

bool Objective::larger_is_better(const std::string& metric) const {
  for (const Term& term : terms_) {
    for (std::size_t m = 0; m < term.metrics.size(); ++m) {
      if (metric == term.prefix + term.metric_names[m]) return term.metrics[m]->larger_is_better();
    }
  }
  return false;
}

std::vector<double> Objective::weights(const io::Batch& batch) const {
  std::vector<double> weights;
  for (const Term& term : terms_) {
    const io::FieldBatch* own =
        batch.sample_weights.empty() ? nullptr : &batch.sample_weights.front();
    weights.push_back(batch.count() == 0
                          ? 0.0
                          : term.loss.weight(batch.targets[term.target], batch.count(), own));
  }
  return weights;
}

at::Tensor Objective::loss(std::span<const at::Tensor> outputs, std::span<const at::Tensor> targets,
                           const at::Tensor& sample_weights,
                           std::span<const at::Tensor> factors) const {
  at::Tensor sum;
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const Term& term = terms_[t];
    if (!factors[t].defined()) continue;
    at::Tensor loss = term.loss.mean(outputs[term.output], targets[term.target], sample_weights);
    loss = loss * factors[t];
    if (term.weight != 1.0) loss = loss * term.weight;
    sum = sum.defined() ? sum + loss : loss;
  }
  return sum;
}

Objective::Sums Objective::sums(std::span<const at::Tensor> outputs,
                                std::span<const at::Tensor> targets,
                                const at::Tensor& sample_weights) const {
  Sums all;
  for (const Term& term : terms_) {
    const at::Tensor& output = outputs[term.output];
    const at::Tensor& target = targets[term.target];
    const Loss::Total total = term.loss.total(output, target, sample_weights);
    all.push_back({total.loss, total.weight});
    for (const auto& metric : term.metrics) all.push_back(metric->sums(output, target));
  }
  return all;
}

Objective::Sums Objective::add(Sums sum, Sums addend) const {
  if (sum.empty()) return addend;
  if (addend.empty()) return sum;
  std::size_t at = 0;
  const auto join = [&](bool collects) {
    std::vector<double>& to = sum[at];
    const std::vector<double>& from = addend[at++];
    if (collects) {
      to.insert(to.end(), from.begin(), from.end());
    } else {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    }
  };
  for (const Term& term : terms_) {
    join(false);
    for (const auto& metric : term.metrics) join(metric->collects());
  }
  return sum;
}

Objective::Values Objective::values(const Sums& sums) const {
  Values result;
  result.values.push_back(0);
  std::size_t at = 0;
  for (const Term& term : terms_) {
    const double mean = sums[at][0] / sums[at][1];
    ++at;
    // One term of weight 1 keeps its bits.
    result.values.front() += term.weight * mean;
    if (terms_.size() > 1) result.values.push_back(mean);
    for (std::size_t m = 0; m < term.metrics.size(); ++m) {
      const std::vector<double>& own = sums[at++];
      result.values.push_back(term.metrics[m]->value(own));
      auto table = term.metrics[m]->table(own);
      if (!table.empty()) {
        result.tables.emplace_back(term.prefix + term.metric_names[m], std::move(table));
      }
    }
  }
  return result;
}

void Objective::check_shapes(std::span<const at::Tensor> outputs,
                             std::span<const at::Tensor> targets) const {
  for (const Term& term : terms_) {
    if (term.output >= outputs.size()) {
      throw io::Error(io::ErrorKind::config,
                      fmt::format("{}output {} is asked for, the model gives {}",
                                  term.prefix.empty()
                                      ? ""
                                      : fmt::format("objective.terms.{}: ",
                                                    term.prefix.substr(0, term.prefix.size() - 1)),
                                  term.output, outputs.size()));
    }
    term.loss.check_shapes(outputs[term.output], targets[term.target]);
  }
}

}  // namespace hadal::engine
