#include "engine/device/device_weights.hpp"

#include "engine/plan.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/content_hash.hpp"

namespace hadal::engine {

using Lane = Device::Lane;

DeviceWeights::DeviceWeights(Device& device, DeviceCommunicator& comm, const Weights& weights)
    : device_(device),
      parameters_(comm.allocate(weights.parameters.size_bytes()), weights.parameters.size()),
      frozen_(device, weights.frozen.size()),
      rounded_(device, weights.rounded.size()),
      constants_(device, weights.constants.bytes.size()),
      hash_(device, 1),
      pinned_(device.pin(std::as_writable_bytes(weights.parameters))) {}

void DeviceWeights::push(const Weights& weights) {
  device_.copy(Lane::compute, parameters_.bytes(), std::as_bytes(weights.parameters));
  device_.copy(Lane::compute, frozen_.bytes(), std::as_bytes(weights.frozen));
  device_.copy(Lane::compute, constants_.bytes(), weights.constants.bytes);
  round(Lane::compute);
  device_.finish(Lane::compute);
}

void DeviceWeights::pull(Weights& weights, HostMemory& host) const {
  const auto count = static_cast<std::int64_t>(parameters_.size());
  const Share mine = shares(count, host.size())[static_cast<std::size_t>(host.rank())];
  const auto begin = static_cast<std::size_t>(mine.begin);
  const auto length = static_cast<std::size_t>(mine.count());
  device_.copy(Lane::compute, std::as_writable_bytes(weights.parameters.subspan(begin, length)),
               std::as_bytes(parameters_.span().subspan(begin, length)));
  device_.finish(Lane::compute);
  host.barrier();
}

void DeviceWeights::round(Lane lane) const {
  if (rounded_.empty()) return;
  kernels::to_bfloat16(device_.stream(lane), rounded_.span(), parameters_.span());
}

std::uint64_t DeviceWeights::hash() const {
  std::uint64_t hash = 0;
  device_.copy(Lane::compute, hash_.bytes(), std::as_bytes(std::span(&hash, 1)));
  kernels::content_hash(device_.stream(Lane::compute), parameters_.span(), hash_.data());
  kernels::content_hash(device_.stream(Lane::compute), frozen_.span(), hash_.data());
  device_.copy_now(std::as_writable_bytes(std::span(&hash, 1)), hash_.bytes());
  return hash;
}

}  // namespace hadal::engine
