#pragma once
// The noise of kernels/noise.hpp, one value at a time.

#include "kernels/device_code.hpp"

namespace hadal::kernels {

HADAL_BOTH std::uint32_t noise_hash(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

HADAL_BOTH std::uint32_t ones_of(std::uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0fu;
  return (x * 0x01010101u) >> 24;
}

// n(key, i), in units of noise_step(1).
HADAL_BOTH float noise_of(std::uint64_t key, std::uint32_t i) {
  const auto low = static_cast<std::uint32_t>(key);
  const auto high = static_cast<std::uint32_t>(key >> 32);
  std::uint32_t draws[3];
  for (std::uint32_t which = 0; which < 3; ++which) {
    draws[which] = noise_hash(noise_hash(i ^ (low + which * 0x9e3779b9u)) ^ high);
  }
  const std::uint32_t set = ones_of(draws[0]) + ones_of(draws[1]);
  const std::uint32_t triangle = (draws[2] & 0xffffu) + (draws[2] >> 16);
  const std::uint32_t sum = (set << 16) + triangle - ((32u << 16) + 0xffffu);
  return static_cast<float>(static_cast<std::int32_t>(sum));
}

}  // namespace hadal::kernels
