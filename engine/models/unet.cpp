#include <fmt/format.h>

#include <algorithm>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"
#include "io/error.hpp"

namespace hadal::engine::models {
namespace {

// Twice: 3-wide convolution, BatchNorm, ReLU.
class DoubleConv {
 public:
  DoubleConv(Lists lists, const std::string& name, std::size_t dims, std::int64_t in,
             std::int64_t out)
      : first_(lists, name + ".double_conv.0", {.dims = dims, .in = in, .out = out, .padding = 1}),
        first_norm_(lists, name + ".double_conv.1", out),
        second_(lists, name + ".double_conv.3",
                {.dims = dims, .in = out, .out = out, .padding = 1}),
        second_norm_(lists, name + ".double_conv.4", out) {}

  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const {
    at::Tensor y = first_norm_(first_(x, context), context);
    at::relu_(y);
    y = second_norm_(second_(y, context), context);
    return at::relu_(y);
  }

 private:
  Conv first_;
  BatchNorm first_norm_;
  Conv second_;
  BatchNorm second_norm_;
};

// Doubles x, pads it to the size of the skipped map, and joins both.
class Up {
 public:
  Up(Lists lists, const std::string& name, std::size_t dims, std::int64_t in)
      : up_(lists, name + ".up", dims, in, in / 2),
        conv_(lists, name + ".conv", dims, in, in / 2) {}

  at::Tensor operator()(const at::Tensor& x, const at::Tensor& skipped,
                        const ForwardContext& context) const {
    const at::Tensor y = up_(x, context);
    std::vector<std::int64_t> padding;  // last axis first
    for (std::int64_t axis = y.dim() - 1; axis >= 2; --axis) {
      const std::int64_t missing = skipped.size(axis) - y.size(axis);
      padding.push_back(missing / 2);
      padding.push_back(missing - missing / 2);
    }
    return conv_(at::cat({skipped, at::constant_pad_nd(y, padding)}, 1), context);
  }

 private:
  Doubling up_;
  DoubleConv conv_;
};

class Unet : public Model {
 public:
  struct Sizes {
    std::size_t dims = 2;
    std::int64_t channels = 1;
    std::int64_t width = 64;
    std::int64_t depth = 4;
    std::int64_t classes = 1;
  };

  explicit Unet(const Sizes& sizes)
      : dims_(sizes.dims),
        enter_({parameters_, buffers_}, "inc", sizes.dims, sizes.channels, sizes.width) {
    uses_batch_statistics_ = true;
    const Lists lists{parameters_, buffers_};
    std::int64_t width = sizes.width;
    for (std::int64_t d = 1; d <= sizes.depth; ++d, width *= 2) {
      downs_.emplace_back(lists, fmt::format("down{}.maxpool_conv.1", d), dims_, width, 2 * width);
    }
    for (std::int64_t d = 1; d <= sizes.depth; ++d, width /= 2) {
      ups_.emplace_back(lists, fmt::format("up{}", d), dims_, width);
    }
    leave_.emplace(
        lists, "outc.conv",
        ConvOptions{.dims = dims_, .in = width, .out = sizes.classes, .kernel = 1, .bias = true});
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    std::vector<at::Tensor> maps{enter_(inputs[0], context)};
    for (const DoubleConv& down : downs_) {
      const at::Tensor& last = maps.back();
      maps.push_back(down(dims_ == 2 ? at::max_pool2d(last, 2) : at::max_pool3d(last, 2), context));
    }
    at::Tensor x = maps.back();
    for (const Up& up : ups_) {
      maps.pop_back();
      x = up(x, maps.back(), context);
    }
    return {(*leave_)(x, context)};
  }

 private:
  std::size_t dims_;
  DoubleConv enter_;
  std::vector<DoubleConv> downs_;
  std::vector<Up> ups_;
  std::optional<Conv> leave_;
};

std::unique_ptr<Model> make(std::size_t dims, OptionReader& options, const io::Shape& input,
                            const io::Shape& wanted) {
  require_image(options, input, dims);
  const Unet::Sizes sizes{
      .dims = dims,
      .channels = input[0],
      .width = options.count("width", dims == 2 ? 64 : 32),
      .depth = options.count("depth", 4),
      .classes = options.count("classes", wanted.size() > dims ? wanted[0] : 1)};
  const std::int64_t least = *std::min_element(input.begin() + 1, input.end());
  if (sizes.depth > 16 || least >> sizes.depth < 1) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("model.options.depth = {} halves samples of shape {} to nothing; "
                                "take fewer",
                                sizes.depth, io::to_string(input)));
  }
  return std::make_unique<Unet>(sizes);
}

}  // namespace

std::unique_ptr<Model> unet(OptionReader& options, const io::Shape& input,
                            const io::Shape& wanted) {
  return make(2, options, input, wanted);
}

std::unique_ptr<Model> unet3d(OptionReader& options, const io::Shape& input,
                              const io::Shape& wanted) {
  return make(3, options, input, wanted);
}

}  // namespace hadal::engine::models
