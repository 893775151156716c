#pragma once
// One loss over one output and one target. A training loss is ATen's own mean over the micro-batch,
// so that a step of one micro-batch has PyTorch's bits; what it divides by is the micro-batch's
// weight, so that the step can weigh micro-batches against each other.

#include <cstdint>
#include <string>

#include "engine/run_config.hpp"
#include "io/batch_reader.hpp"

namespace at {
class Tensor;
}

namespace hadal::engine {

class Loss {
 public:
  // Throws a config error for options that do not fit the loss.
  explicit Loss(const LossOptions& options);

  const LossOptions& options() const { return options_; }
  bool counts_classes() const { return options_.kind == LossKind::cross_entropy; }

  // What the mean of this batch divides by: its samples, or for cross-entropy its labels that are
  // not ignored, each with its class's weight (its samples, where it has probabilities instead);
  // times the sample's own where `sample_weights` (float32 [count]) is not null. 0: the batch has
  // no mean.
  double weight(const io::FieldBatch& target, std::int64_t samples,
                const io::FieldBatch* sample_weights) const;

  // ATen's mean loss: a scalar with gradient. `output` is [count, …]; the target of cross-entropy
  // class indices, or float32 probabilities like the output. With `sample_weights` (else
  // undefined), the weighted mean.
  at::Tensor mean(const at::Tensor& output, const at::Tensor& target,
                  const at::Tensor& sample_weights) const;

  struct Total {
    double loss = 0;
    double weight = 0;
  };
  // The sum that the mean is made of, in float64, and what it divides by.
  Total total(const at::Tensor& output, const at::Tensor& target,
              const at::Tensor& sample_weights) const;

  // Throws a data error, with both shapes, where the two do not fit each other.
  void check_shapes(const at::Tensor& output, const at::Tensor& target) const;

 private:
  at::Tensor label_weights(const at::Tensor& target) const;
  at::Tensor elements(const at::Tensor& output, const at::Tensor& target,
                      std::int64_t reduction) const;

  LossOptions options_;
};

// `target` in the shape of `output`: [count] for [count, 1], and the like.
at::Tensor shaped_like(const at::Tensor& target, const at::Tensor& output);

// True where the classes of cross-entropy are on the last axis of the output, not on axis 1.
bool has_classes_last(const at::Tensor& output, const at::Tensor& target);

// The sum in float64.
double sum_of(const at::Tensor& tensor);

}  // namespace hadal::engine
