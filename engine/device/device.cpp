#include "engine/device/device.hpp"

#include "engine/comm/polling.hpp"

namespace hadal::engine {

// A rank with a device has a core to wait on; what it waits for is over in no time, mostly.
constexpr std::chrono::milliseconds kAlert(2);

void Device::wait(const Mark& mark, const std::function<void()>& meanwhile) {
  poll_until(
      [&] {
        if (meanwhile) meanwhile();
        return reached(mark);
      },
      kAlert);
}

void Device::copy_now(std::span<std::byte> to, std::span<const std::byte> from) {
  copy(Lane::compute, to, from);
  finish(Lane::compute);
}

std::unique_ptr<Device> open_device(const DeviceChoice& choice, const DeviceOptions& options) {
  switch (choice.kind) {
    case DeviceKind::cpu:
      break;
    case DeviceKind::cuda:
      return cuda_device(choice.ordinal, options);
    case DeviceKind::twin:
      return twin_device();
  }
  return nullptr;
}

}  // namespace hadal::engine
