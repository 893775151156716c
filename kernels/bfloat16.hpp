#pragma once

#include <cstdint>
#include <span>

namespace hadal::kernels {

// copy[i] = value[i] rounded to the nearest bfloat16, to even where two are as near (as torch's
// Tensor.to does); a NaN stays one. Equal sizes; distinct memory.
void to_bfloat16(std::span<std::uint16_t> copy, std::span<const float> value);

}  // namespace hadal::kernels
