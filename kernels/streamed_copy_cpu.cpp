#include <cassert>
#include <cstdint>
#include <cstring>

#include "kernels/streamed_copy.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/streamed_copy_cpu.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void StreamedCopy(std::byte* to, const std::byte* from, std::size_t size) {
  const hn::ScalableTag<std::uint8_t> d;
  const std::size_t lanes = hn::Lanes(d);
  auto* out = reinterpret_cast<std::uint8_t*>(to);
  const auto* in = reinterpret_cast<const std::uint8_t*>(from);
  std::size_t i = 0;
  if (reinterpret_cast<std::uintptr_t>(to) % lanes == 0) {
    for (; i + lanes <= size; i += lanes) hn::Stream(hn::LoadU(d, in + i), d, out + i);
  }
  if (i < size) std::memcpy(to + i, from + i, size - i);
  // Such stores are not ordered with others by themselves.
  hwy::FlushStream();
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {

HWY_EXPORT(StreamedCopy);

void streamed_copy(std::span<std::byte> to, std::span<const std::byte> from) {
  assert(to.size() == from.size());
  HWY_DYNAMIC_DISPATCH(StreamedCopy)(to.data(), from.data(), from.size());
}

}  // namespace hadal::kernels
#endif
