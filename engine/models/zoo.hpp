#pragma once
// The built-in models, one factory each, and the reader of their options. Each factory takes the
// shape of an input sample and of what is wanted for it (the target's, or {classes}); `classes` in
// the options is the number of scores or values that the model gives, at each place where it gives
// a map or a sequence of them.

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>

#include "engine/model.hpp"

namespace hadal::engine::models {

// Takes options by name with a default and remembers which were asked for; finish() throws a config
// error for any other, naming the nearest.
class OptionReader {
 public:
  explicit OptionReader(const ModelOptions& options) : options_(options) {}

  const std::string& kind() const { return options_.kind; }
  std::int64_t count(const std::string& name, std::int64_t otherwise);  // at least 1
  double share(const std::string& name, double otherwise);              // in [0, 1)
  std::vector<std::int64_t> counts(const std::string& name,
                                   const std::vector<std::int64_t>& otherwise);
  void finish() const;

 private:
  std::optional<nlohmann::json> find(const std::string& name);

  const ModelOptions& options_;
  std::set<std::string> asked_;
};

// Throws a config error unless a sample has channels and `dims` spatial axes, and a hint to layout.
void require_image(const OptionReader& options, const io::Shape& input, std::size_t dims);

// Throws a config error unless the heads of attention share the width out evenly.
void require_heads(std::int64_t width, std::int64_t heads);

using Factory = std::unique_ptr<Model>(OptionReader& options, const io::Shape& input,
                                       const io::Shape& wanted);

// options: hidden (list of widths, [256, 128]), dropout (0), classes.
Factory mlp;

// options: channels (list, [32, 64]), dropout (0), classes.
Factory convnet;

// torchvision's names. options: classes.
Factory resnet18, resnet34, resnet50;

// torchvision's names; the defaults are its vit_b_16's. options: patch (16), width (768), layers
// (12), heads (12), hidden (4 * width), dropout (0), classes.
Factory vit;

// Encoder and decoder with skip connections (Ronneberger et al. 2015) with batch norm and padded
// convolutions, for images and for volumes. Names as in the widely used milesial/Pytorch-UNet:
// inc, downN.maxpool_conv.1, upN.up, upN.conv, outc.conv. options: width (64; 32 in 3D), depth (4),
// classes.
Factory unet, unet3d;

// The regression of cosmological parameters from a cube of matter density, MLPerf HPC's reference
// (Mathuriya et al. 2018): convolution, leaky ReLU and pooling `layers` times, then three dense
// layers, 1.2 * tanh at the end. Names: conv_seq.N.conv, dense1, dense2, output. options: width
// (32, doubled at each layer), layers (5), dropout (0.5), classes.
Factory cosmoflow;

// Decoder-only transformer with GPT-2's arithmetic (Radford et al. 2019) and nanoGPT's names
// (transformer.wte, h.N.attn.c_attn, …; weights as torch.nn.Linear stores them); lm_head is tied to
// wte. Samples are token numbers [length], outputs [length, classes]. options: width (768), layers
// (12), heads (12), dropout (0), classes (of the vocabulary).
Factory gpt;

}  // namespace hadal::engine::models
