#include <fmt/format.h>

#include <optional>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"

namespace hadal::engine::models {
namespace {

// Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width out (He et al. 2016, figure 5);
// the stride sits on the 3x3 convolution, as in torchvision.
class ResidualBlock {
 public:
  ResidualBlock(Lists lists, const std::string& name, std::int64_t in, std::int64_t width,
                std::int64_t stride, bool bottleneck) {
    const std::int64_t out = bottleneck ? 4 * width : width;
    const auto add = [&](std::size_t n, const ConvOptions& conv) {
      convs_.emplace_back(lists, fmt::format("{}.conv{}", name, n), conv);
      norms_.emplace_back(lists, fmt::format("{}.bn{}", name, n), conv.out);
    };
    const auto conv = [](std::int64_t from, std::int64_t to, std::int64_t kernel,
                         std::int64_t step) {
      return ConvOptions{.in = from,
                         .out = to,
                         .kernel = kernel,
                         .stride = step,
                         .padding = kernel / 2,
                         .fan_out_init = true};
    };
    if (bottleneck) {
      add(1, conv(in, width, 1, 1));
      add(2, conv(width, width, 3, stride));
      add(3, conv(width, out, 1, 1));
    } else {
      add(1, conv(in, width, 3, stride));
      add(2, conv(width, width, 3, 1));
    }
    if (stride != 1 || in != out) {
      shortcut_.emplace(lists, name + ".downsample.0", conv(in, out, 1, stride));
      shortcut_norm_.emplace(lists, name + ".downsample.1", out);
    }
  }

  at::Tensor operator()(const at::Tensor& x, ForwardContext& context) const {
    at::Tensor y = x;
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      y = norms_[i](convs_[i](y, context), context);
      if (i + 1 < convs_.size()) y = at::relu_(y);
    }
    const at::Tensor identity =
        shortcut_ ? (*shortcut_norm_)((*shortcut_)(x, context), context) : x;
    y += identity;
    return at::relu_(y);
  }

 private:
  std::vector<Conv> convs_;
  std::vector<BatchNorm> norms_;
  std::optional<Conv> shortcut_;
  std::optional<BatchNorm> shortcut_norm_;
};

struct Depth {
  std::vector<std::int64_t> blocks;
  bool bottleneck = false;
};

class Resnet : public Model {
 public:
  Resnet(const Depth& depth, std::int64_t channels, std::int64_t classes)
      : stem_({parameters_, buffers_}, "conv1",
              ConvOptions{.in = channels,
                          .out = 64,
                          .kernel = 7,
                          .stride = 2,
                          .padding = 3,
                          .fan_out_init = true}),
        stem_norm_({parameters_, buffers_}, "bn1", 64) {
    uses_batch_statistics_ = true;
    prefers_channels_last_ = true;
    const Lists lists{parameters_, buffers_};
    std::int64_t in = 64;
    for (std::size_t layer = 0; layer < depth.blocks.size(); ++layer) {
      const std::int64_t width = std::int64_t{64} << layer;
      for (std::int64_t b = 0; b < depth.blocks[layer]; ++b) {
        const std::int64_t stride = b == 0 && layer > 0 ? 2 : 1;
        blocks_.emplace_back(lists, fmt::format("layer{}.{}", layer + 1, b), in, width, stride,
                             depth.bottleneck);
        in = depth.bottleneck ? 4 * width : width;
      }
    }
    head_.emplace(lists, "fc", in, classes);
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    at::Tensor x = stem_norm_(stem_(inputs[0], context), context);
    at::relu_(x);
    x = at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
    for (const ResidualBlock& block : blocks_) x = block(x, context);
    x = at::flatten(at::adaptive_avg_pool2d(x, {1, 1}), 1);
    return {(*head_)(x, context)};
  }

 private:
  Conv stem_;
  BatchNorm stem_norm_;
  std::vector<ResidualBlock> blocks_;
  std::optional<Linear> head_;
};

std::unique_ptr<Model> make(const Depth& depth, OptionReader& options, const io::Shape& input,
                            const io::Shape& wanted) {
  require_image(options, input, 2);
  return std::make_unique<Resnet>(depth, input[0],
                                  options.count("classes", io::element_count(wanted)));
}

}  // namespace

std::unique_ptr<Model> resnet18(OptionReader& options, const io::Shape& input,
                                const io::Shape& wanted) {
  return make({{2, 2, 2, 2}, false}, options, input, wanted);
}

std::unique_ptr<Model> resnet34(OptionReader& options, const io::Shape& input,
                                const io::Shape& wanted) {
  return make({{3, 4, 6, 3}, false}, options, input, wanted);
}

std::unique_ptr<Model> resnet50(OptionReader& options, const io::Shape& input,
                                const io::Shape& wanted) {
  return make({{3, 4, 6, 3}, true}, options, input, wanted);
}

}  // namespace hadal::engine::models
