#include <fmt/format.h>

#include <cmath>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"
#include "io/error.hpp"

namespace hadal::engine::models {
namespace {

constexpr double kEps = 1e-6;
constexpr Init kZero{Init::Kind::constant, 0};

struct Sizes {
  std::int64_t patch = 16;
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  std::int64_t hidden = 3072;
  double dropout = 0;
};

Init xavier(std::int64_t in, std::int64_t out) {
  return {Init::Kind::uniform, std::sqrt(6.0 / static_cast<double>(in + out))};
}

// torch.nn.MultiheadAttention of x with itself, batch first, as it runs in training: the same
// operators in the same order.
class SelfAttention {
 public:
  SelfAttention(Lists lists, const std::string& name, const Sizes& sizes)
      : sizes_(sizes), in_(lists.parameters.size()) {
    const std::int64_t width = sizes.width;
    lists.parameters.push_back(
        {name + ".in_proj_weight", {3 * width, width}, xavier(width, 3 * width)});
    lists.parameters.push_back({name + ".in_proj_bias", {3 * width}, kZero});
    const double bound = 1.0 / std::sqrt(static_cast<double>(width));
    out_.emplace(lists, name + ".out_proj", width, width,
                 LinearInit{{Init::Kind::uniform, bound}, kZero});
  }

  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const {
    const at::Tensor along = x.transpose(1, 0);  // [length, batch, width]
    const std::int64_t length = along.size(0), count = along.size(1);
    const std::int64_t width = sizes_.width, depth = width / sizes_.heads;
    const at::Tensor packed =
        at::linear(along, context.parameters[in_], context.parameters[in_ + 1])
            .unflatten(-1, {3, width})
            .unsqueeze(0)
            .transpose(0, -2)
            .squeeze(-2)
            .contiguous();
    const auto heads = [&](std::int64_t part) {
      return packed[part]
          .view({length, count * sizes_.heads, depth})
          .transpose(0, 1)
          .view({count, sizes_.heads, length, depth});
    };
    const at::Tensor joined = at::scaled_dot_product_attention(heads(0), heads(1), heads(2))
                                  .permute({2, 0, 1, 3})
                                  .contiguous()
                                  .view({length * count, width});
    return (*out_)(joined, context).view({length, count, width}).transpose(1, 0);
  }

 private:
  Sizes sizes_;
  std::size_t in_;
  std::optional<Linear> out_;
};

class EncoderBlock {
 public:
  EncoderBlock(Lists lists, const std::string& name, const Sizes& sizes)
      : dropout_(sizes.dropout),
        norm1_(lists, name + ".ln_1", sizes.width, kEps),
        attention_(lists, name + ".self_attention", sizes),
        norm2_(lists, name + ".ln_2", sizes.width, kEps),
        widen_(lists, name + ".mlp.0", sizes.width, sizes.hidden,
               LinearInit{xavier(sizes.width, sizes.hidden), {Init::Kind::normal, 1e-6}}),
        narrow_(lists, name + ".mlp.3", sizes.hidden, sizes.width,
                LinearInit{xavier(sizes.hidden, sizes.width), {Init::Kind::normal, 1e-6}}) {}

  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const {
    const at::Tensor y = dropout(attention_(norm1_(x, context), context), dropout_, context) + x;
    const at::Tensor wide =
        dropout(at::gelu(widen_(norm2_(y, context), context)), dropout_, context);
    return y + dropout(narrow_(wide, context), dropout_, context);
  }

 private:
  double dropout_;
  LayerNorm norm1_;
  SelfAttention attention_;
  LayerNorm norm2_;
  Linear widen_;
  Linear narrow_;
};

class Vit : public Model {
 public:
  Vit(const Sizes& sizes, const io::Shape& input, std::int64_t classes) : sizes_(sizes) {
    const std::int64_t patches = (input[1] / sizes.patch) * (input[2] / sizes.patch);
    const Lists lists{parameters_, buffers_};
    const double fan_in = static_cast<double>(input[0] * sizes.patch * sizes.patch);
    // torchvision cuts this normal off at 2, which no value of it ever reaches.
    parameters_.push_back({"conv_proj.weight",
                           {sizes.width, input[0], sizes.patch, sizes.patch},
                           {Init::Kind::normal, std::sqrt(1.0 / fan_in)}});
    parameters_.push_back({"conv_proj.bias", {sizes.width}, kZero});
    parameters_.push_back({"class_token", {1, 1, sizes.width}, kZero});
    parameters_.push_back(
        {"encoder.pos_embedding", {1, patches + 1, sizes.width}, {Init::Kind::normal, 0.02}});
    for (std::int64_t i = 0; i < sizes.layers; ++i) {
      blocks_.emplace_back(lists, fmt::format("encoder.layers.encoder_layer_{}", i), sizes);
    }
    norm_.emplace(lists, "encoder.ln", sizes.width, kEps);
    head_.emplace(lists, "heads.head", sizes.width, classes, LinearInit{kZero, kZero});
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    const auto& parameters = context.parameters;
    const std::int64_t count = inputs[0].size(0);
    at::Tensor x = at::conv2d(inputs[0], parameters[0], parameters[1], sizes_.patch);
    x = x.reshape({count, sizes_.width, -1}).permute({0, 2, 1});
    x = at::cat({parameters[2].expand({count, -1, -1}), x}, 1) + parameters[3];
    x = dropout(x, sizes_.dropout, context);
    for (const EncoderBlock& block : blocks_) x = block(x, context);
    return {(*head_)((*norm_)(x, context).select(1, 0), context)};
  }

 private:
  Sizes sizes_;
  std::vector<EncoderBlock> blocks_;
  std::optional<LayerNorm> norm_;
  std::optional<Linear> head_;
};

}  // namespace

std::unique_ptr<Model> vit(OptionReader& options, const io::Shape& input, const io::Shape& wanted) {
  require_image(options, input, 2);
  const std::int64_t width = options.count("width", 768);
  const Sizes sizes{.patch = options.count("patch", 16),
                    .width = width,
                    .layers = options.count("layers", 12),
                    .heads = options.count("heads", 12),
                    .hidden = options.count("hidden", 4 * width),
                    .dropout = options.share("dropout", 0)};
  require_heads(sizes.width, sizes.heads);
  if (input[1] % sizes.patch != 0 || input[2] % sizes.patch != 0) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("model.options.patch = {} does not divide images of shape {}",
                                sizes.patch, io::to_string(input)));
  }
  return std::make_unique<Vit>(sizes, input, options.count("classes", io::element_count(wanted)));
}

}  // namespace hadal::engine::models
