#include <fmt/format.h>

#include <cmath>

#include "engine/models/layers.hpp"
#include "engine/models/zoo.hpp"
#include "io/error.hpp"

namespace hadal::engine::models {
namespace {

constexpr double kEps = 1e-5;
constexpr Init kZero{Init::Kind::constant, 0};
constexpr Init kNarrow{Init::Kind::normal, 0.02};

struct Sizes {
  std::int64_t width = 768;
  std::int64_t layers = 12;
  std::int64_t heads = 12;
  double dropout = 0;

  // Projections onto the residual stream start narrower, by the number of their additions.
  Init residual() const {
    return {Init::Kind::normal, 0.02 / std::sqrt(2.0 * static_cast<double>(layers))};
  }
};

class Block {
 public:
  Block(Lists lists, const std::string& name, const Sizes& sizes)
      : sizes_(sizes),
        norm1_(lists, name + ".ln_1", sizes.width, kEps),
        attend_(lists, name + ".attn.c_attn", sizes.width, 3 * sizes.width,
                LinearInit{kNarrow, kZero}),
        project_(lists, name + ".attn.c_proj", sizes.width, sizes.width,
                 LinearInit{sizes.residual(), kZero}),
        norm2_(lists, name + ".ln_2", sizes.width, kEps),
        widen_(lists, name + ".mlp.c_fc", sizes.width, 4 * sizes.width, LinearInit{kNarrow, kZero}),
        narrow_(lists, name + ".mlp.c_proj", 4 * sizes.width, sizes.width,
                LinearInit{sizes.residual(), kZero}) {}

  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const {
    const at::Tensor y = x + attention(norm1_(x, context), context);
    const at::Tensor wide = at::gelu(widen_(norm2_(y, context), context), "tanh");
    return y + dropout(narrow_(wide, context), sizes_.dropout, context);
  }

 private:
  at::Tensor attention(const at::Tensor& x, const ForwardContext& context) const {
    const std::int64_t count = x.size(0), length = x.size(1), width = sizes_.width;
    const auto heads = [&](const at::Tensor& t) {
      return t.view({count, length, sizes_.heads, width / sizes_.heads}).transpose(1, 2);
    };
    const std::vector<at::Tensor> parts = attend_(x, context).split(width, 2);
    const at::Tensor y = at::scaled_dot_product_attention(
        heads(parts[0]), heads(parts[1]), heads(parts[2]), {},
        context.training ? sizes_.dropout : 0.0, /*is_causal=*/true);
    const at::Tensor joined = y.transpose(1, 2).contiguous().view({count, length, width});
    return dropout(project_(joined, context), sizes_.dropout, context);
  }

  Sizes sizes_;
  LayerNorm norm1_;
  Linear attend_;
  Linear project_;
  LayerNorm norm2_;
  Linear widen_;
  Linear narrow_;
};

class Gpt : public Model {
 public:
  Gpt(const Sizes& sizes, std::int64_t length, std::int64_t classes) : sizes_(sizes) {
    const Lists lists{parameters_, buffers_};
    const std::string root = "transformer.";
    parameters_.push_back({.name = root + "wte.weight",
                           .shape = {classes, sizes.width},
                           .init = kNarrow,
                           .aliases = {"lm_head.weight"}});
    parameters_.push_back(
        {.name = root + "wpe.weight", .shape = {length, sizes.width}, .init = kNarrow});
    for (std::int64_t i = 0; i < sizes.layers; ++i) {
      blocks_.emplace_back(lists, fmt::format("{}h.{}", root, i), sizes);
    }
    norm_.emplace(lists, root + "ln_f", sizes.width, kEps);
  }

  std::vector<at::Tensor> forward(std::span<const at::Tensor> inputs,
                                  ForwardContext& context) const override {
    const at::Tensor& words = context.parameters[0];
    const at::Tensor places = at::arange(inputs[0].size(1), inputs[0].options());
    at::Tensor x = at::embedding(words, inputs[0]) + at::embedding(context.parameters[1], places);
    x = dropout(x, sizes_.dropout, context);
    for (const Block& block : blocks_) x = block(x, context);
    return {at::linear((*norm_)(x, context), words)};
  }

 private:
  Sizes sizes_;
  std::vector<Block> blocks_;
  std::optional<LayerNorm> norm_;
};

}  // namespace

std::unique_ptr<Model> gpt(OptionReader& options, const io::Shape& input, const io::Shape&) {
  if (input.size() != 1) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("gpt needs samples of shape [length], token numbers; they have {}",
                                io::to_string(input)));
  }
  const Sizes sizes{.width = options.count("width", 768),
                    .layers = options.count("layers", 12),
                    .heads = options.count("heads", 12),
                    .dropout = options.share("dropout", 0)};
  require_heads(sizes.width, sizes.heads);
  const std::int64_t classes = options.count("classes", 0);
  if (classes == 0) {
    throw io::Error(io::ErrorKind::config,
                    "model.options.classes is needed: the size of the vocabulary");
  }
  return std::make_unique<Gpt>(sizes, input[0], classes);
}

}  // namespace hadal::engine::models
