#pragma once
// Gaussian noise out of counters: no state, so any thread draws any part of it.

#include <cstdint>
#include <span>

namespace hadal::kernels {

// values[i] += deviation * n(key, i), with n of mean 0 and variance 1: the number of ones among 64
// hashed bits, spread by a triangular draw between its steps. Its distribution function is nowhere
// further than 0.0005 from the normal one, its largest value 8. The same bits on every processor.
void add_noise(std::span<float> values, float deviation, std::uint64_t key);

// What the whole numbers of kernels/noise_code.hpp are multiplied by for the same noise.
float noise_step(float deviation);

}  // namespace hadal::kernels
