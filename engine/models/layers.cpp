#include "engine/models/layers.hpp"

#include <ATen/core/grad_mode.h>

#include <cmath>

namespace hadal::engine::models {
namespace {

// torch.nn.Linear and Conv2d: kaiming_uniform with a = sqrt(5) is uniform(-b, b), b = 1 / sqrt(fan
// in), for weight and bias alike.
Init default_init(std::int64_t fan_in) {
  return {Init::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(fan_in))};
}

}  // namespace

Linear::Linear(Lists lists, const std::string& name, std::int64_t in, std::int64_t out)
    : weight_(lists.parameters.size()) {
  lists.parameters.push_back({name + ".weight", {out, in}, default_init(in)});
  lists.parameters.push_back({name + ".bias", {out}, default_init(in)});
}

at::Tensor Linear::operator()(const at::Tensor& x, const ForwardContext& context) const {
  return at::linear(x, context.parameters[weight_], context.parameters[weight_ + 1]);
}

Conv2d::Conv2d(Lists lists, const std::string& name, const ConvOptions& options)
    : options_(options), weight_(lists.parameters.size()) {
  const std::int64_t area = options.kernel * options.kernel;
  const double fan_out = static_cast<double>(options.out * area);
  const Init init = options.fan_out_init ? Init{Init::Kind::normal, std::sqrt(2.0 / fan_out)}
                                         : default_init(options.in * area);
  lists.parameters.push_back(
      {name + ".weight", {options.out, options.in, options.kernel, options.kernel}, init});
  if (options.bias) {
    lists.parameters.push_back({name + ".bias", {options.out}, default_init(options.in * area)});
  }
}

at::Tensor Conv2d::operator()(const at::Tensor& x, const ForwardContext& context) const {
  const at::Tensor bias = options_.bias ? context.parameters[weight_ + 1] : at::Tensor();
  return at::conv2d(x, context.parameters[weight_], bias, options_.stride, options_.padding);
}

BatchNorm2d::BatchNorm2d(Lists lists, const std::string& name, std::int64_t channels)
    : weight_(lists.parameters.size()), buffer_(lists.buffers.size()) {
  lists.parameters.push_back({name + ".weight", {channels}, {Init::Kind::constant, 1}});
  lists.parameters.push_back({name + ".bias", {channels}, {Init::Kind::constant, 0}});
  lists.buffers.add({name + ".running_mean", {channels}, io::DType::f32, 0});
  lists.buffers.add({name + ".running_var", {channels}, io::DType::f32, 1});
  lists.buffers.add({name + ".num_batches_tracked", {}, io::DType::i64, 0});
}

at::Tensor BatchNorm2d::operator()(const at::Tensor& x, const ForwardContext& context) const {
  const bool training = context.training && !context.specs[weight_].keeps_statistics;
  if (training) context.buffers[buffer_ + 2].add_(1);
  return at::batch_norm(x, context.parameters[weight_], context.parameters[weight_ + 1],
                        context.buffers[buffer_], context.buffers[buffer_ + 1], training,
                        /*momentum=*/0.1, /*eps=*/1e-5, /*cudnn_enabled=*/true);
}

at::Tensor dropout(const at::Tensor& x, double p, const ForwardContext& context) {
  if (!context.training || p == 0) return x;
  at::Tensor noise = at::empty_like(x);
  {
    const at::NoGradGuard no_grad;
    noise.bernoulli_(1 - p, *context.generator);
    noise.div_(1 - p);
  }
  return x * noise;
}

}  // namespace hadal::engine::models
