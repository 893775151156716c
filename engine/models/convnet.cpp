#include <fmt/format.h>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"

namespace hadal::engine::models {
namespace {

// Conv 3x3, BatchNorm, ReLU and MaxPool 2 (while the image is larger than 3) for every width,
// global average, Dropout, Linear. Names: features.N.conv, features.N.norm, head.
class Convnet : public Model {
 public:
  Convnet(OptionReader& options, const io::Shape& input, const io::Shape& wanted) {
    require_image(options, input, 2);
    const auto channels = options.counts("channels", {32, 64});
    dropout_ = options.share("dropout", 0);
    const std::int64_t classes = options.count("classes", io::element_count(wanted));
    uses_batch_statistics_ = true;
    prefers_channels_last_ = true;
    const Lists lists{parameters_, buffers_};
    std::int64_t width = input[0];
    for (std::size_t i = 0; i < channels.size(); ++i) {
      const std::string name = fmt::format("features.{}", i);
      convs_.emplace_back(lists, name + ".conv",
                          ConvOptions{.in = width, .out = channels[i], .padding = 1});
      norms_.emplace_back(lists, name + ".norm", channels[i]);
      width = channels[i];
    }
    head_.emplace_back(lists, "head", width, classes);
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    at::Tensor x = inputs[0];
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      x = at::relu(norms_[i](convs_[i](x, context), context));
      if (std::min(x.size(2), x.size(3)) > 3) x = at::max_pool2d(x, 2);
    }
    x = at::flatten(at::adaptive_avg_pool2d(x, {1, 1}), 1);
    return {head_[0](dropout(x, dropout_, context), context)};
  }

 private:
  double dropout_ = 0;
  std::vector<Conv> convs_;
  std::vector<BatchNorm> norms_;
  std::vector<Linear> head_;
};

}  // namespace

std::unique_ptr<Model> convnet(OptionReader& options, const io::Shape& input,
                               const io::Shape& wanted) {
  return std::make_unique<Convnet>(options, input, wanted);
}

}  // namespace hadal::engine::models
