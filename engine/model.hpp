#pragma once
// A model as the engine sees it: a list of parameters and buffers under their state-dict names, and
// a forward pass over them. It holds no weights; each worker calls it with its own leaf tensors
// over the shared parameter memory, so one model serves all workers at once.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/run_config.hpp"
#include "io/dtype.hpp"

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
};

struct BufferSpec {
  std::string name;
  io::Shape shape;
  io::DType dtype = io::DType::f32;  // float32 or int64
  double value = 0;
};

// What one forward pass works on. `parameters` and `buffers` follow the model's lists; buffers are
// the micro-batch's own and may be changed in place.
struct ForwardContext {
  std::span<const at::Tensor> parameters;
  std::span<at::Tensor> buffers;
  bool training = true;
  at::Generator* generator = nullptr;  // the worker's, seeded for this micro-batch
};

class Model {
 public:
  virtual ~Model() = default;

  // In order of first use.
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  const std::vector<BufferSpec>& buffers() const { return buffers_; }
  // True where a micro-batch of one sample cannot be normalised (batch norm over the batch alone).
  bool uses_batch_statistics() const { return !buffers_.empty(); }

  // Inputs of shape [count, …] to outputs of shape [count, …]. Any thread.
  virtual std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                          ForwardContext& context) const = 0;

 protected:
  std::vector<ParameterSpec> parameters_;
  std::vector<BufferSpec> buffers_;
};

// Builds a model of the zoo for samples of shape `input` (without the batch axis). `outputs` is the
// number of classes or values where the options do not say. Throws a config error for an unknown
// kind or option.
std::unique_ptr<Model> build_model(const ModelOptions& options, const io::Shape& input,
                                   std::int64_t outputs);

std::vector<std::string> model_kinds();

// First values of all parameters, each from (seed, its name) alone.
// `values[i]` has the size of parameter i.
void initialise(const Model& model, std::uint64_t seed, std::span<const std::span<float>> values);

}  // namespace hadal::engine
