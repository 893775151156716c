#pragma once
// The devices to test: the twin everywhere, and a GPU where there is one.

#include <vector>

#include "engine/device/device_array.hpp"
#include "tests/support/catch.hpp"

namespace hadal::tests {

inline std::vector<engine::DeviceChoice> devices() {
  std::vector<engine::DeviceChoice> all{{engine::DeviceKind::twin, 0}};
  if (engine::cuda_device_count() > 0) all.push_back({engine::DeviceKind::cuda, 0});
  return all;
}

// body(device, its stream) for every device.
template <class Body>
void on_every_device(Body body) {
  for (const engine::DeviceChoice& choice : devices()) {
    const auto device = engine::open_device(choice, {});
    CAPTURE(device->name());
    body(*device, device->stream(engine::Device::Lane::compute));
  }
}

// Host values in a device's memory.
template <class T>
class Mirror {
 public:
  Mirror(engine::Device& device, std::vector<T>& host)
      : device_(device), host_(host), array_(device, host.size()) {
    device.copy_now(array_.bytes(), std::as_bytes(std::span(host)));
  }
  T* data() const { return array_.data(); }
  std::span<T> span() const { return array_.span(); }
  // The device's values to the host.
  void fetch() { device_.copy_now(std::as_writable_bytes(std::span(host_)), array_.bytes()); }

 private:
  engine::Device& device_;
  std::vector<T>& host_;
  engine::DeviceArray<T> array_;
};

}  // namespace hadal::tests
