#pragma once
// For X_cuda.cu: rounding to bfloat16 as kernels/bfloat16.hpp has it.

#include "kernels/device_code.hpp"

namespace hadal::kernels {

HADAL_BOTH std::uint16_t rounded_to_bfloat16(float value) {
  const std::uint32_t bits = bits_of(value);
  if (value != value) return 0x7fc0u;
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

HADAL_BOTH float from_bfloat16(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace hadal::kernels
