#include "engine/batch_tensors.hpp"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "engine/tensor_type.hpp"
#include "kernels/images.hpp"

namespace hadal::engine {
namespace {

at::Tensor as_tensor(const io::FieldBatch& field) {
  return values_at(const_cast<std::byte*>(field.bytes.data()), field.shape, to_aten(field.dtype),
                   at::kCPU);
}

// To the device in the transfer lane, from memory that it can read on its own.
at::Tensor moved(const at::Tensor& host, Device& device) {
  const auto lane = device.enter(Device::Lane::transfer);
  const at::Device there = device.tensors();
  at::Tensor source = host;
  if (there.is_cuda()) {
    source = at::empty(host.sizes(), host.options().pinned_memory(true));
    source.copy_(host);
  }
  at::Tensor copy = at::empty(host.sizes(), host.options().device(there));
  copy.copy_(source, /*non_blocking=*/true);
  return copy;
}

template <class T>
at::Tensor moved(const std::vector<T>& values, Device& device) {
  return moved(bytes_at(std::as_bytes(std::span(values))), device);
}

// Images become what the model takes on the device, which gets them as they are stored.
at::Tensor images(const io::FieldBatch& field, Device& device) {
  const io::ImagePlan& plan = *field.plan;
  const at::Tensor stored = moved(bytes_at(field.bytes), device);
  const at::Tensor samples = moved(plan.samples, device);
  const at::Tensor constants = moved(plan.constants, device);
  const auto lane = device.enter(Device::Lane::transfer);
  at::Tensor out = at::empty(field.shape, at::TensorOptions(at::kFloat).device(device.tensors()));
  kernels::make_images(device.stream(Device::Lane::transfer), plan.layout, field.shape.front(),
                       static_cast<const std::byte*>(stored.const_data_ptr()),
                       static_cast<const kernels::ImageSample*>(samples.const_data_ptr()),
                       static_cast<const float*>(constants.const_data_ptr()),
                       out.mutable_data_ptr<float>());
  return out;
}

at::Tensor taken(const io::FieldBatch& field, Device* device) {
  if (device == nullptr) return as_tensor(field);
  return field.plan ? images(field, *device) : moved(as_tensor(field), *device);
}

}  // namespace

at::Tensor values_at(void* memory, const io::Shape& shape, at::ScalarType type, at::Device device) {
  return at::from_blob(memory, shape, at::TensorOptions(type).device(device));
}

at::Tensor bytes_at(std::span<const std::byte> bytes) {
  return values_at(const_cast<std::byte*>(bytes.data()), {std::ssize(bytes)}, at::kByte, at::kCPU);
}

at::Tensor staging(std::int64_t bytes, const Device& device) {
  return at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(device.tensors().is_cuda()));
}

BatchTensors batch_tensors(const io::Batch& batch, Device* device) {
  BatchTensors tensors;
  for (const io::FieldBatch& field : batch.inputs) tensors.inputs.push_back(taken(field, device));
  for (const io::FieldBatch& field : batch.targets) tensors.targets.push_back(taken(field, device));
  if (!batch.sample_weights.empty()) {
    tensors.sample_weights = taken(batch.sample_weights.front(), device).flatten();
  }
  if (device == nullptr) return tensors;
  device->wait(Device::Lane::compute, device->mark(Device::Lane::transfer));
  if (!device->tensors().is_cuda()) return tensors;
  // Their memory is the transfer lane's; it must not go back to it before they have been read.
  const c10::Stream stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(device->tensors());
  for (at::Tensor& tensor : tensors.inputs) tensor.record_stream(stream);
  for (at::Tensor& tensor : tensors.targets) tensor.record_stream(stream);
  if (tensors.sample_weights.defined()) tensors.sample_weights.record_stream(stream);
  return tensors;
}

}  // namespace hadal::engine
