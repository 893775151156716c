#pragma once
// What happens to every value of an input on its way from a file into a batch.

#include <cstdint>
#include <span>

namespace hadal::kernels {

// out[i] = in[i], exactly. Equal sizes.
void widen(std::span<float> out, std::span<const std::uint8_t> in);
void widen(std::span<float> out, std::span<const std::int8_t> in);
void widen(std::span<float> out, std::span<const std::uint16_t> in);
void widen(std::span<float> out, std::span<const std::int16_t> in);

// values[i] = (values[i] * scale - mean) / std, each operation rounded.
void normalise(std::span<float> values, float scale, float mean, float std);

// True where no value is infinite or NaN.
bool all_finite(std::span<const float> values);

}  // namespace hadal::kernels
