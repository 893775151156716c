#include "engine/device/device_rounding.hpp"

#include "kernels/bfloat16.hpp"

namespace hadal::engine {

DeviceRounding::DeviceRounding(Device& device, const PartRounding& host, Share share,
                               std::int64_t elements)
    : device_(device), host_(host), first_(host.parts().part_at(share.begin)) {
  for (std::int64_t part = first_; part < host.parts().part_at(share.end); ++part) {
    left_out_.emplace_back(device, static_cast<std::size_t>(elements));
    pinned_.push_back(device.pin(std::as_writable_bytes(host.left_out(part))));
  }
}

void DeviceRounding::round(Device::Lane lane, kernels::TreeNode part, std::int64_t begin,
                           std::span<float> values) const {
  const std::span<float> left_out = left_out_[static_cast<std::size_t>(part.index - first_)].span();
  kernels::round_with_feedback(device_.stream(lane), values, values,
                               left_out.subspan(static_cast<std::size_t>(begin), values.size()));
}

void DeviceRounding::push() {
  for (std::size_t k = 0; k < left_out_.size(); ++k) {
    device_.copy_now(left_out_[k].bytes(),
                     std::as_bytes(host_.left_out(first_ + static_cast<std::int64_t>(k))));
  }
}

void DeviceRounding::pull() {
  for (std::size_t k = 0; k < left_out_.size(); ++k) {
    device_.copy_now(std::as_writable_bytes(host_.left_out(first_ + static_cast<std::int64_t>(k))),
                     left_out_[k].bytes());
  }
}

}  // namespace hadal::engine
