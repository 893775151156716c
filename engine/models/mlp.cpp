#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"

namespace hadal::engine::models {
namespace {

// Flatten, then Linear, ReLU and Dropout for every hidden width, then a Linear: named as
// torch.nn.Sequential(Flatten, Linear, ReLU, Dropout, …) names its layers.
class Mlp : public Model {
 public:
  Mlp(OptionReader& options, const io::Shape& input, const io::Shape& wanted) {
    const auto hidden = options.counts("hidden", {256, 128});
    dropout_ = options.share("dropout", 0);
    const std::int64_t classes = options.count("classes", io::element_count(wanted));
    const Lists lists{parameters_, buffers_};
    std::int64_t width = io::element_count(input);
    std::int64_t position = 1;
    for (const std::int64_t next : hidden) {
      layers_.emplace_back(lists, std::to_string(position), width, next);
      width = next;
      position += 3;
    }
    layers_.emplace_back(lists, std::to_string(position), width, classes);
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    at::Tensor x = at::flatten(inputs[0], 1);
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) {
      x = dropout(at::relu(layers_[i](x, context)), dropout_, context);
    }
    return {layers_.back()(x, context)};
  }

 private:
  double dropout_ = 0;
  std::vector<Linear> layers_;
};

}  // namespace

std::unique_ptr<Model> mlp(OptionReader& options, const io::Shape& input, const io::Shape& wanted) {
  return std::make_unique<Mlp>(options, input, wanted);
}

}  // namespace hadal::engine::models
