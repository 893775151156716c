#pragma once
// The layers that the zoo is built of: each adds its parameters and buffers to a model's lists and
// remembers where they are. Initial values follow torch.nn unless said otherwise.

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/model.hpp"

namespace hadal::engine::models {

struct Lists {
  std::vector<ParameterSpec>& parameters;
  BufferLayout& buffers;
};

struct LinearInit {
  Init weight;
  Init bias;
};

class Linear {
 public:
  Linear(Lists lists, const std::string& name, std::int64_t in, std::int64_t out,
         const std::optional<LinearInit>& init = {});
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t weight_;
};

struct ConvOptions {
  std::size_t dims = 2;  // 2 or 3
  std::int64_t in = 1;
  std::int64_t out = 1;
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  bool bias = false;
  bool fan_out_init = false;  // torchvision's ResNet: normal with variance 2 / (out * kernel^dims)
};

class Conv {
 public:
  Conv(Lists lists, const std::string& name, const ConvOptions& options);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  ConvOptions options_;
  std::size_t weight_;
};

// Transposed convolution with kernel 2 and stride 2 and a bias: doubles every spatial axis.
class Doubling {
 public:
  Doubling(Lists lists, const std::string& name, std::size_t dims, std::int64_t in,
           std::int64_t out);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t dims_;
  std::size_t weight_;
};

class BatchNorm {
 public:
  BatchNorm(Lists lists, const std::string& name, std::int64_t channels);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t weight_;
  std::size_t buffer_;
};

// Over the last axis.
class LayerNorm {
 public:
  LayerNorm(Lists lists, const std::string& name, std::int64_t width, double eps);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t weight_;
  std::int64_t width_;
  double eps_;
};

// torch.nn.functional.dropout with the worker's own generator: the same operations, so equal draws
// give equal bits.
at::Tensor dropout(const at::Tensor& x, double p, const ForwardContext& context);

}  // namespace hadal::engine::models
