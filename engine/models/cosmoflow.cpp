#include <fmt/format.h>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"
#include "io/error.hpp"

namespace hadal::engine::models {
namespace {

constexpr double kSlope = 0.3;  // of the leaky ReLUs
constexpr double kReach = 1.2;  // of the outputs: targets are scaled to [-1, 1]

class Cosmoflow : public Model {
 public:
  Cosmoflow(OptionReader& options, const io::Shape& input, const io::Shape& wanted) {
    require_image(options, input, 3);
    const std::int64_t layers = options.count("layers", 5);
    std::int64_t width = options.count("width", 32);
    dropout_ = options.share("dropout", 0.5);
    const std::int64_t outputs = options.count("classes", io::element_count(wanted));
    const Lists lists{parameters_, buffers_};
    std::int64_t channels = input[0];
    io::Shape size(input.begin() + 1, input.end());
    for (std::int64_t i = 0; i < layers; ++i, width *= 2) {
      convs_.emplace_back(
          lists, fmt::format("conv_seq.{}.conv", i),
          ConvOptions{.dims = 3, .in = channels, .out = width, .padding = 1, .bias = true});
      channels = width;
      for (std::int64_t& extent : size) extent /= 2;
      if (io::element_count(size) == 0) {
        throw io::Error(io::ErrorKind::config,
                        fmt::format("model.options.layers = {} halves samples of shape {} to "
                                    "nothing; take fewer",
                                    layers, io::to_string(input)));
      }
    }
    dense_.emplace_back(lists, "dense1", channels * io::element_count(size), 128);
    dense_.emplace_back(lists, "dense2", 128, 64);
    dense_.emplace_back(lists, "output", 64, outputs);
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    at::Tensor x = inputs[0];
    for (const Conv& conv : convs_) {
      x = at::max_pool3d(at::leaky_relu(conv(x, context), kSlope), 2);
    }
    x = at::flatten(x, 1);
    for (std::size_t i = 0; i + 1 < dense_.size(); ++i) {
      x = dropout(at::leaky_relu(dense_[i](x, context), kSlope), dropout_, context);
    }
    return {at::tanh(dense_.back()(x, context)) * kReach};
  }

 private:
  double dropout_ = 0;
  std::vector<Conv> convs_;
  std::vector<Linear> dense_;
};

}  // namespace

std::unique_ptr<Model> cosmoflow(OptionReader& options, const io::Shape& input,
                                 const io::Shape& wanted) {
  return std::make_unique<Cosmoflow>(options, input, wanted);
}

}  // namespace hadal::engine::models
