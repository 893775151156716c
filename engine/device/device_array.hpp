#pragma once
// Values in a device's memory.

#include <span>

#include "engine/device/device.hpp"

namespace hadal::engine {

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  // Zeros.
  DeviceArray(Device& device, std::size_t count)
      : DeviceArray(device.allocate(count * sizeof(T)), count) {}
  DeviceArray(Device::Memory memory, std::size_t count)
      : memory_(std::move(memory)), count_(count) {}

  // Null where there are none.
  T* data() const { return count_ == 0 ? nullptr : reinterpret_cast<T*>(memory_.get()); }
  std::size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  std::span<T> span() const { return {data(), count_}; }
  std::span<std::byte> bytes() const { return std::as_writable_bytes(span()); }

 private:
  Device::Memory memory_;
  std::size_t count_ = 0;
};

}  // namespace hadal::engine
