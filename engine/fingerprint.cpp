#include "engine/fingerprint.hpp"

#include <ATen/ATen.h>
#include <ATen/Version.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/aligned_buffer.hpp"
#include "engine/device/device_array.hpp"
#include "io/hashing_file.hpp"
#include "io/sample_order.hpp"

namespace hadal::engine {
namespace {

std::int64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field)) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

io::Batch synthetic_batch(const io::DataIndex& index, std::int64_t count) {
  io::Batch batch;
  for (std::int64_t i = 0; i < count; ++i) batch.ids.push_back(i);
  std::uint64_t draw = 0;
  for (const io::FieldIndex& field : index.fields) {
    io::FieldBatch made{.dtype = field.options.dtype, .shape = {count}, .bytes = {}};
    made.shape.insert(made.shape.end(), field.sample_shape.begin(), field.sample_shape.end());
    made.bytes.resize(
        static_cast<std::size_t>(io::element_count(made.shape) * io::size_bytes(made.dtype)),
        std::byte{0});
    if (field.options.role == io::FieldRole::target) {
      batch.targets.push_back(std::move(made));
      continue;
    }
    if (field.options.role != io::FieldRole::input) continue;
    if (made.dtype == io::DType::f32) {
      auto* values = reinterpret_cast<float*>(made.bytes.data());
      const std::size_t size = made.bytes.size() / sizeof(float);
      for (std::size_t i = 0; i < size; ++i) {
        values[i] = static_cast<float>(io::mix(++draw, 1) >> 40) / 16777216.0f;
      }
    }
    batch.inputs.push_back(std::move(made));
  }
  return batch;
}

}  // namespace

std::int64_t resident_bytes() { return status_bytes("VmRSS:"); }
std::int64_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

std::string processor_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string name = "unknown processor";
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!line.starts_with("model name")) continue;
    name = line.substr(line.find(':') + 2);
    break;
  }
  return name + ", " + at::get_cpu_capability();
}

Fingerprint training_fingerprint(WorkerPool& pool, const Weights& weights,
                                 const io::DataIndex& index, std::int64_t micro_batch,
                                 std::size_t terms, Device* device) {
  const io::Batch batch = synthetic_batch(index, micro_batch);
  AlignedBuffer gradient(weights.layout.size());
  DeviceArray<float> device_gradient;
  if (device != nullptr) device_gradient = DeviceArray<float>(*device, gradient.span().size());
  MicroBatchResult result;
  const std::vector<float> factors(terms, 1.0f);
  const std::int64_t before = resident_bytes();
  pool.run(0, 1, [&](Worker& worker, std::int64_t) {
    result = worker.train(batch, factors, 0,
                          device == nullptr ? gradient.span() : device_gradient.span());
  });
  if (device != nullptr) {
    Worker::collect(*device, result);
    device->copy_now(std::as_writable_bytes(gradient.span()), device_gradient.bytes());
  }
  const std::uint64_t loss = io::hash_bytes(std::as_bytes(std::span(&result.loss, 1)));
  return {.arithmetic = io::hash_bytes(std::as_bytes(gradient.span()), loss),
          .peak_bytes = std::max<std::int64_t>(0, peak_resident_bytes() - before),
          .arrived = result.arrived};
}

Fingerprint forward_fingerprint(WorkerPool& pool, const io::DataIndex& index,
                                std::int64_t micro_batch) {
  const io::Batch batch = synthetic_batch(index, micro_batch);
  Fingerprint result;
  const std::int64_t before = resident_bytes();
  pool.run(0, 1, [&](Worker& worker, std::int64_t) {
    for (const at::Tensor& output : worker.predict(batch)) {
      const at::Tensor values = output.contiguous();
      result.arithmetic =
          io::hash_bytes({static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()},
                         result.arithmetic);
    }
  });
  result.peak_bytes = std::max<std::int64_t>(0, peak_resident_bytes() - before);
  return result;
}

}  // namespace hadal::engine
