#pragma once
// Where the gradients of a micro-batch go: a place in an arena for each trained parameter.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "engine/arena.hpp"
#include "engine/arrival.hpp"

namespace hadal::engine {

class GradientSink {
 public:
  // `gradient` is of the layout, in the memory of `device`; a device's has zeros as padding
  // already.
  GradientSink(const ArenaLayout& layout, std::span<float> gradient, at::Device device);
  GradientSink(const GradientSink&) = delete;
  GradientSink& operator=(const GradientSink&) = delete;

  std::span<float> gradient() const { return gradient_; }
  // By arena entry: whether it got a gradient, once closed.
  const std::vector<std::uint8_t>& arrived() const { return arrived_; }

  // Backward brings the gradients of these leaves (by arena entry) here until another sink opens.
  // Must outlive that.
  void open(std::span<at::Tensor* const> leaves, Arrived tell);
  // Zeros for those that got none.
  void close();

 private:
  friend class TakeGradient;
  at::Tensor place(std::size_t entry) const;
  void taken(std::size_t entry);

  const ArenaLayout& layout_;
  std::span<float> gradient_;
  at::Device device_;
  std::vector<std::uint8_t> arrived_;
  Arrived tell_;
};

}  // namespace hadal::engine
