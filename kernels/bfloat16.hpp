#pragma once
// Float32 values in half the bytes, and error feedback for what is lost by it (Seide et al. 2014,
// "1-bit stochastic gradient descent", section 3.2): it is added to the next value.

#include <cstdint>
#include <span>

#include "kernels/stream.hpp"

namespace hadal::kernels {

// copy[i] = value[i] rounded to the nearest bfloat16, to even where two are as near (as torch's
// Tensor.to does); a NaN stays one. Equal sizes; distinct memory.
void to_bfloat16(std::span<std::uint16_t> copy, std::span<const float> value);

// The same in device memory, as all with a stream.
void to_bfloat16(Stream stream, std::span<std::uint16_t> copy, std::span<const float> value);

// value[i] = copy[i], exactly. Equal sizes; distinct memory.
void from_bfloat16(std::span<float> value, std::span<const std::uint16_t> copy);
void from_bfloat16(Stream stream, std::span<float> value, std::span<const std::uint16_t> copy);

// rounded[i] = value[i] + lost[i] as the nearest bfloat16, in float32; lost[i] = what that leaves
// out, or 0 where it is not finite. Equal sizes; `rounded` may be `value`.
void round_with_feedback(std::span<float> rounded, std::span<const float> value,
                         std::span<float> lost);
void round_with_feedback(Stream stream, std::span<float> rounded, std::span<const float> value,
                         std::span<float> lost);

// change[i] = goal[i] - value[i] as the nearest bfloat16, then value[i] += change[i]: whoever has
// the same values and adds the change to them follows. What is left out is in the next change.
// Equal sizes; distinct memory.
void follow(std::span<float> value, std::span<std::uint16_t> change, std::span<const float> goal);

// value[i] += change[i]. Equal sizes; distinct memory.
void add_bfloat16(std::span<float> value, std::span<const std::uint16_t> change);
void add_bfloat16(Stream stream, std::span<float> value, std::span<const std::uint16_t> change);

}  // namespace hadal::kernels
