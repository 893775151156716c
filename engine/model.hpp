#pragma once
// A model as the engine sees it: lists of parameters, buffers and constants under their state-dict
// names, and a forward pass over them. It holds no weights; each worker calls it with its own leaf
// tensors over the shared parameter memory, so one model serves all workers at once.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/buffer_layout.hpp"
#include "engine/run_config.hpp"

namespace at {
class Tensor;
struct Generator;
}  // namespace at

namespace hadal::engine {

// Distribution of a parameter's first value.
struct Init {
  enum class Kind { constant, uniform, normal };
  Kind kind = Kind::constant;
  double value = 0;  // the constant, the bound of uniform(-b, b), or the standard deviation
};

struct ParameterSpec {
  std::string name;
  io::Shape shape;
  Init init;
  std::vector<std::string> aliases;  // further names of a tied weight
  bool frozen = false;               // never changes: takes no gradient, no state, no reduction
  bool keeps_statistics = false;     // its batch norm stays in evaluation mode
};

// One named tensor of a sample, as the batch holds it.
struct InputSpec {
  std::string name;
  io::DType dtype = io::DType::f32;
  io::Shape shape;  // without the batch axis
};

// What one forward pass works on, in the order of the model's lists. Buffers are the micro-batch's
// own and may be changed in place.
struct ForwardContext {
  std::span<const ParameterSpec> specs;
  std::span<const at::Tensor> parameters;
  std::span<at::Tensor> buffers;
  std::span<const at::Tensor> constants;
  bool training = true;
  at::Generator* generator = nullptr;  // the worker's, seeded for this micro-batch
};

class Model {
 public:
  virtual ~Model() = default;

  // In order of first use.
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  // Changed by training forwards.
  const BufferLayout& buffers() const { return buffers_; }
  // Never changed.
  const BufferLayout& constants() const { return constants_; }
  // True where samples of a micro-batch are normalised over each other (batch norm).
  bool uses_batch_statistics() const { return uses_batch_statistics_; }
  // True where images whose channels lie together in memory are faster in lower precision.
  bool prefers_channels_last() const { return prefers_channels_last_; }
  // The only number of samples that a forward pass takes as they are; shorter ones are padded by
  // the model. Nothing where any number will do.
  std::optional<std::int64_t> batch() const { return batch_; }

  // First values: of parameter i in `values[i]`, each from (seed, its name) or from the model's own
  // file. An empty span is another rank's to fill.
  virtual void initialise(std::uint64_t seed, std::span<const std::span<float>> values,
                          BufferValues& buffers, BufferValues& constants) const;

  // Inputs of shape [count, …] to outputs of shape [count, …]. Any thread.
  virtual std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                          ForwardContext& context) const = 0;

  // Why the model cannot be trained, or evaluated, as a sentence for people; empty where it can.
  virtual std::string reason_against_training() const { return {}; }
  virtual std::string reason_against_evaluation() const { return {}; }

  // Never changes this parameter. Before anything is built on the model.
  void freeze(std::size_t parameter) { parameters_[parameter].frozen = true; }
  // Keeps the batch norm that this parameter belongs to in evaluation mode.
  virtual void keep_statistics(std::size_t parameter) {
    parameters_[parameter].keeps_statistics = true;
  }

 protected:
  std::vector<ParameterSpec> parameters_;
  BufferLayout buffers_;
  BufferLayout constants_;
  bool uses_batch_statistics_ = false;
  bool prefers_channels_last_ = false;
  std::optional<std::int64_t> batch_;
};

// Builds the model of a run for samples with these inputs: of the zoo, an exported program or a
// TorchScript archive.
// `wanted` is the shape of what a zoo model gives for a sample where its options do not say. Throws
// a config error for an unknown kind or option or inputs that do not fit, a checkpoint error for a
// program that cannot be used.
std::unique_ptr<Model> build_model(const ModelOptions& options,
                                   const std::vector<InputSpec>& inputs, const io::Shape& wanted);

std::vector<std::string> model_kinds();

// `model.options.classes`, where it is a whole number from 1.
std::optional<std::int64_t> classes_of(const ModelOptions& options);

// Shape of output `number` of an exported program for one sample, -1 where an extent is dynamic;
// empty where there is no such output. Throws a checkpoint error for a program that cannot be used.
io::Shape program_output(const std::filesystem::path& path, std::size_t number);

// Fills a parameter with values from (seed, its name) alone.
void draw(const ParameterSpec& spec, std::uint64_t seed, std::span<float> values);

}  // namespace hadal::engine
