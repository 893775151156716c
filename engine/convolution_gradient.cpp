#include "engine/convolution_gradient.hpp"

#include <ATen/ATen.h>
#include <ATen/NativeFunctions.h>
#include <torch/library.h>

#include <mutex>

#include "engine/quiet_warnings.hpp"

namespace hadal::engine {
namespace {

// The places along one axis of a kernel that no pixel ever meets.
std::vector<std::int64_t> unmet(std::int64_t image, std::int64_t outputs, std::int64_t kernel,
                                std::int64_t stride, std::int64_t padding, std::int64_t dilation) {
  std::vector<std::int64_t> places;
  for (std::int64_t place = 0; place < kernel; ++place) {
    bool meets = false;
    for (std::int64_t output = 0; output < outputs && !meets; ++output) {
      const std::int64_t pixel = output * stride - padding + place * dilation;
      meets = pixel >= 0 && pixel < image;
    }
    if (!meets) places.push_back(place);
  }
  return places;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, std::int64_t groups,
    std::array<bool, 3> wanted) {
  auto result =
      at::native::convolution_backward(gradient, input, weight, bias_sizes, stride, padding,
                                       dilation, transposed, output_padding, groups, wanted);
  at::Tensor& of_weight = std::get<1>(result);
  if (!of_weight.defined() || of_weight.scalar_type() != at::kBFloat16) return result;
  // A transposed one walks over its output.
  const at::Tensor& image = transposed ? gradient : input;
  const at::Tensor& walk = transposed ? input : gradient;
  for (std::int64_t axis = 2; axis < weight.dim(); ++axis) {
    const auto at = [&](at::IntArrayRef each) {
      return each.size() == 1 ? each[0] : each[static_cast<std::size_t>(axis - 2)];
    };
    for (const std::int64_t place : unmet(image.size(axis), walk.size(axis), weight.size(axis),
                                          at(stride), at(padding), at(dilation))) {
      of_weight.select(axis, place).zero_();
    }
  }
  return result;
}

}  // namespace

void repair_convolution_gradient() {
  static std::once_flag once;
  std::call_once(once, [] {
    const QuietWarnings quiet;
    static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__,
                                  __LINE__);
    library.impl("convolution_backward", convolution_backward);
  });
}

}  // namespace hadal::engine
