#pragma once
// The layers that the zoo is built of: each adds its parameters and buffers to a model's lists and
// remembers where they are. Initial values follow torch.nn unless said otherwise.

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "engine/model.hpp"

namespace hadal::engine::models {

struct Lists {
  std::vector<ParameterSpec>& parameters;
  BufferLayout& buffers;
};

class Linear {
 public:
  Linear(Lists lists, const std::string& name, std::int64_t in, std::int64_t out);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t weight_;
};

struct ConvOptions {
  std::int64_t in = 1;
  std::int64_t out = 1;
  std::int64_t kernel = 3;
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  bool bias = false;
  bool fan_out_init = false;  // torchvision's ResNet: normal with variance 2 / (out * kernel^2)
};

class Conv2d {
 public:
  Conv2d(Lists lists, const std::string& name, const ConvOptions& options);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  ConvOptions options_;
  std::size_t weight_;
};

class BatchNorm2d {
 public:
  BatchNorm2d(Lists lists, const std::string& name, std::int64_t channels);
  at::Tensor operator()(const at::Tensor& x, const ForwardContext& context) const;

 private:
  std::size_t weight_;
  std::size_t buffer_;
};

// torch.nn.functional.dropout with the worker's own generator: the same operations, so equal draws
// give equal bits.
at::Tensor dropout(const at::Tensor& x, double p, const ForwardContext& context);

}  // namespace hadal::engine::models
