#include "engine/models/layers.hpp"

#include <ATen/core/grad_mode.h>

#include <cmath>

namespace hadal::engine::models {
namespace {

// torch.nn's linear and convolution layers: kaiming_uniform with a = sqrt(5) is uniform(-b, b), b =
// 1 / sqrt(fan in), for weight and bias alike.
Init default_init(std::int64_t fan_in) {
  return {Init::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(fan_in))};
}

std::int64_t power(std::int64_t base, std::size_t exponent) {
  return exponent == 0 ? 1 : base * power(base, exponent - 1);
}

}  // namespace

Linear::Linear(Lists lists, const std::string& name, std::int64_t in, std::int64_t out,
               const std::optional<LinearInit>& init)
    : weight_(lists.parameters.size()) {
  const LinearInit values = init.value_or(LinearInit{default_init(in), default_init(in)});
  lists.parameters.push_back({name + ".weight", {out, in}, values.weight});
  lists.parameters.push_back({name + ".bias", {out}, values.bias});
}

at::Tensor Linear::operator()(const at::Tensor& x, const ForwardContext& context) const {
  return at::linear(x, context.parameters[weight_], context.parameters[weight_ + 1]);
}

Conv::Conv(Lists lists, const std::string& name, const ConvOptions& options)
    : options_(options), weight_(lists.parameters.size()) {
  const std::int64_t volume = power(options.kernel, options.dims);
  const double fan_out = static_cast<double>(options.out * volume);
  const Init init = options.fan_out_init ? Init{Init::Kind::normal, std::sqrt(2.0 / fan_out)}
                                         : default_init(options.in * volume);
  io::Shape shape{options.out, options.in};
  shape.insert(shape.end(), options.dims, options.kernel);
  lists.parameters.push_back({name + ".weight", shape, init});
  if (options.bias) {
    lists.parameters.push_back({name + ".bias", {options.out}, default_init(options.in * volume)});
  }
}

at::Tensor Conv::operator()(const at::Tensor& x, const ForwardContext& context) const {
  const at::Tensor& weight = context.parameters[weight_];
  const at::Tensor bias = options_.bias ? context.parameters[weight_ + 1] : at::Tensor();
  return options_.dims == 2 ? at::conv2d(x, weight, bias, options_.stride, options_.padding)
                            : at::conv3d(x, weight, bias, options_.stride, options_.padding);
}

Doubling::Doubling(Lists lists, const std::string& name, std::size_t dims, std::int64_t in,
                   std::int64_t out)
    : dims_(dims), weight_(lists.parameters.size()) {
  io::Shape shape{in, out};
  shape.insert(shape.end(), dims, 2);
  // torch.nn counts the fan in of a transposed convolution by its second axis.
  const Init init = default_init(out * power(2, dims));
  lists.parameters.push_back({name + ".weight", shape, init});
  lists.parameters.push_back({name + ".bias", {out}, init});
}

at::Tensor Doubling::operator()(const at::Tensor& x, const ForwardContext& context) const {
  const at::Tensor& weight = context.parameters[weight_];
  const at::Tensor& bias = context.parameters[weight_ + 1];
  return dims_ == 2 ? at::conv_transpose2d(x, weight, bias, 2)
                    : at::conv_transpose3d(x, weight, bias, 2);
}

BatchNorm::BatchNorm(Lists lists, const std::string& name, std::int64_t channels)
    : weight_(lists.parameters.size()), buffer_(lists.buffers.size()) {
  lists.parameters.push_back({name + ".weight", {channels}, {Init::Kind::constant, 1}});
  lists.parameters.push_back({name + ".bias", {channels}, {Init::Kind::constant, 0}});
  lists.buffers.add({name + ".running_mean", {channels}, io::DType::f32, 0});
  lists.buffers.add({name + ".running_var", {channels}, io::DType::f32, 1});
  lists.buffers.add({name + ".num_batches_tracked", {}, io::DType::i64, 0});
}

at::Tensor BatchNorm::operator()(const at::Tensor& x, const ForwardContext& context) const {
  const bool training = context.training && !context.specs[weight_].keeps_statistics;
  if (training) context.buffers[buffer_ + 2].add_(1);
  return at::batch_norm(x, context.parameters[weight_], context.parameters[weight_ + 1],
                        context.buffers[buffer_], context.buffers[buffer_ + 1], training,
                        /*momentum=*/0.1, /*eps=*/1e-5, /*cudnn_enabled=*/true);
}

LayerNorm::LayerNorm(Lists lists, const std::string& name, std::int64_t width, double eps)
    : weight_(lists.parameters.size()), width_(width), eps_(eps) {
  lists.parameters.push_back({name + ".weight", {width}, {Init::Kind::constant, 1}});
  lists.parameters.push_back({name + ".bias", {width}, {Init::Kind::constant, 0}});
}

at::Tensor LayerNorm::operator()(const at::Tensor& x, const ForwardContext& context) const {
  return at::layer_norm(x, {width_}, context.parameters[weight_], context.parameters[weight_ + 1],
                        eps_);
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
