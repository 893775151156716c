#pragma once
// A micro-batch where a model computes.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "engine/device/device.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

struct BatchTensors {
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> targets;
  at::Tensor sample_weights;  // undefined where samples have none of their own
};

// Without a device, views of the batch, which must outlive them. For a device, copies that come in
// beside what it computes; its compute lane waits for them. The batch may go at once.
BatchTensors batch_tensors(const io::Batch& batch, Device* device);

// A view of memory that stays for as long as it is used.
at::Tensor values_at(void* memory, const io::Shape& shape, at::ScalarType type, at::Device device);
at::Tensor bytes_at(std::span<const std::byte> bytes);

// Host memory that a device copies from and to on its own, while the host goes on.
at::Tensor staging(std::int64_t bytes, const Device& device);

}  // namespace hadal::engine
