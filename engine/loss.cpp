#include "engine/loss.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "io/error.hpp"

namespace hadal::engine {
namespace {

at::Tensor class_weight_tensor(const LossOptions& options, const at::Tensor& beside) {
  if (options.class_weights.empty()) return {};
  return at::tensor(options.class_weights, at::kFloat).to(beside.device());
}

// Scores with the classes on axis 1, as ATen wants them: language models have them last.
at::Tensor classes_second(const at::Tensor& output, const at::Tensor& target) {
  return has_classes_last(output, target) ? output.flatten(0, -2) : output;
}

// One loss a sample: 1 - the mean over classes of 2 |P T| / (|P| + |T|) with soft P (Milletari et
// al. 2016, V-Net, equation 1, with plain sums); 1 is added above and below, so an absent class
// costs nothing.
at::Tensor dice(const at::Tensor& output, const at::Tensor& target) {
  constexpr double kSmooth = 1;
  const bool indices = target.scalar_type() == at::kLong;
  at::Tensor wanted = target, share;
  if (indices) {
    wanted = at::one_hot(target, output.size(1)).movedim(-1, 1).to(output.scalar_type());
    share = at::softmax(output, 1);
  } else {
    wanted = shaped_like(target, output);
    share = at::sigmoid(output);
  }
  const auto per_class = [](const at::Tensor& t) { return t.flatten(2).sum(2); };
  const at::Tensor both = per_class((share * wanted).unsqueeze(-1));
  const at::Tensor all = per_class((share + wanted).unsqueeze(-1));
  return (1 - (2 * both + kSmooth) / (all + kSmooth)).mean(1);
}

}  // namespace

at::Tensor shaped_like(const at::Tensor& target, const at::Tensor& output) {
  return target.sizes() == output.sizes() ? target : target.view_as(output);
}

bool has_classes_last(const at::Tensor& output, const at::Tensor& target) {
  if (output.dim() < 3) return false;
  std::vector<std::int64_t> second = output.sizes().vec();
  second.erase(second.begin() + 1);
  return target.sizes() != second && target.sizes() == output.sizes().slice(0, output.dim() - 1);
}

double sum_of(const at::Tensor& tensor) { return tensor.to(at::kDouble).sum().item<double>(); }

Loss::Loss(const LossOptions& options) : options_(options) {
  const auto refuse = [](const std::string& key) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("objective.{} belongs to the loss \"cross_entropy\" only", key));
  };
  if (counts_classes()) return;
  if (options.label_smoothing != 0) refuse("label_smoothing");
  if (!options.class_weights.empty()) refuse("class_weights");
}

double Loss::weight(const io::FieldBatch& target, std::int64_t samples,
                    const io::FieldBatch* sample_weights) const {
  const auto sample_weight = [&](std::size_t sample) {
    float weight = 1;
    if (sample_weights != nullptr) {
      std::memcpy(&weight, sample_weights->bytes.data() + sample * sizeof weight, sizeof weight);
    }
    return static_cast<double>(weight);
  };
  double weight = 0;
  if (!counts_classes() || target.dtype != io::DType::i64) {
    for (std::size_t s = 0; s < static_cast<std::size_t>(samples); ++s) weight += sample_weight(s);
    return weight;
  }
  const std::size_t count = target.bytes.size() / sizeof(std::int64_t);
  const std::size_t per_sample =
      count / static_cast<std::size_t>(std::max<std::int64_t>(1, samples));
  for (std::size_t i = 0; i < count; ++i) {
    std::int64_t label = 0;
    std::memcpy(&label, target.bytes.data() + i * sizeof label, sizeof label);
    if (label == options_.ignore_index) continue;
    weight += sample_weight(i / per_sample) *
              (options_.class_weights.empty()
                   ? 1.0
                   : options_.class_weights.at(static_cast<std::size_t>(label)));
  }
  return weight;
}

at::Tensor Loss::elements(const at::Tensor& output, const at::Tensor& stored_target,
                          std::int64_t reduction) const {
  if (counts_classes()) {
    bool last = has_classes_last(output, stored_target);
    at::Tensor scores = classes_second(output, stored_target);
    if (output.is_cuda() && scores.dim() > 2 && stored_target.scalar_type() == at::kLong) {
      // The loss of every place of an image has no form on GPUs whose bits are the same each time;
      // that of a list of labels has.
      scores = scores.movedim(1, -1).flatten(0, -2);
      last = true;
    }
    // Of probabilities none is ignored, and ATen refuses to be told.
    constexpr std::int64_t kNoLabel = -100;
    return at::cross_entropy_loss(
        scores, last ? stored_target.flatten() : stored_target,
        class_weight_tensor(options_, output), reduction,
        stored_target.is_floating_point() ? kNoLabel : options_.ignore_index,
        options_.label_smoothing);
  }
  if (options_.kind == LossKind::dice) {
    const at::Tensor losses = dice(output, stored_target);
    return reduction == at::Reduction::Mean ? losses.mean() : losses;
  }
  const at::Tensor target = shaped_like(stored_target, output);
  switch (options_.kind) {
    case LossKind::mean_squared_error:
      return at::mse_loss(output, target, reduction);
    case LossKind::mean_absolute_error:
      return at::l1_loss(output, target, reduction);
    case LossKind::huber:
      return at::huber_loss(output, target, reduction, options_.huber_delta);
    default:
      return at::binary_cross_entropy_with_logits(output, target, {}, {}, reduction);
  }
}

at::Tensor Loss::mean(const at::Tensor& output, const at::Tensor& target,
                      const at::Tensor& sample_weights) const {
  if (!sample_weights.defined()) return elements(output, target, at::Reduction::Mean);
  const std::int64_t samples = output.size(0);
  at::Tensor losses = elements(output, target, at::Reduction::None).reshape({samples, -1});
  if (!counts_classes()) losses = losses.mean(1, /*keepdim=*/true);
  const at::Tensor places = label_weights(target).reshape({samples, -1});
  const at::Tensor weights = sample_weights.view({samples, 1});
  return (losses * weights).sum() / (places * weights).sum();
}

Loss::Total Loss::total(const at::Tensor& output, const at::Tensor& target,
                        const at::Tensor& sample_weights) const {
  const std::int64_t samples = output.size(0);
  at::Tensor losses =
      elements(output, target, at::Reduction::None).reshape({samples, -1}).to(at::kDouble);
  at::Tensor places = label_weights(target).reshape({samples, -1}).to(at::kDouble);
  if (!counts_classes()) places = at::ones_like(losses);
  if (sample_weights.defined()) {
    const at::Tensor weights = sample_weights.view({samples, 1}).to(at::kDouble);
    losses = losses * weights;
    places = places * weights;
  }
  return {.loss = sum_of(losses), .weight = sum_of(places)};
}

// What each label weighs in the mean; 1 a sample where there are no classes.
at::Tensor Loss::label_weights(const at::Tensor& target) const {
  if (!counts_classes() || target.scalar_type() != at::kLong) {
    return at::ones({target.size(0)}, target.options().dtype(at::kFloat));
  }
  const at::Tensor counted = target.ne(options_.ignore_index).to(at::kFloat);
  const at::Tensor weights = class_weight_tensor(options_, target);
  if (!weights.defined()) return counted;
  return weights.index_select(0, target.clamp_min(0).flatten()).view_as(target) * counted;
}

void Loss::check_shapes(const at::Tensor& output, const at::Tensor& target) const {
  const auto shape = [](const at::Tensor& t) {
    return io::to_string(io::Shape(t.sizes().begin() + 1, t.sizes().end()));
  };
  const auto fail = [&](const std::string& why) {
    throw io::Error(
        io::ErrorKind::data,
        fmt::format("the model's output for a sample has the shape {}, the target {}: {}",
                    shape(output), shape(target), why));
  };
  if (output.dim() == 0 || output.size(0) != target.size(0)) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("the model's output has the shape {} for {} samples; its first "
                                "axis must be the samples",
                                io::to_string(output.sizes().vec()), target.size(0)));
  }
  const bool indices = target.scalar_type() == at::kLong;
  if (counts_classes() && !indices) {
    if (output.sizes() != target.sizes()) fail("probabilities must be like the scores");
    return;
  }
  if (!counts_classes() && !(options_.kind == LossKind::dice && indices)) {
    if (output.numel() != target.numel()) fail("they must hold equally many values");
    return;
  }
  std::vector<std::int64_t> second = output.sizes().vec();
  if (second.size() > 1) second.erase(second.begin() + 1);
  if (output.dim() != target.dim() + 1 ||
      (target.sizes() != second && !has_classes_last(output, target))) {
    fail(
        "class indices […] need [classes, …] or […, classes]; labels stored one-hot need one_hot = "
        "true");
  }
  const std::int64_t classes = classes_second(output, target).size(1);
  if (!options_.class_weights.empty() &&
      classes != static_cast<std::int64_t>(options_.class_weights.size())) {
    fail(fmt::format("objective.class_weights has {} values", options_.class_weights.size()));
  }
}

}  // namespace hadal::engine
