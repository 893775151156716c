#pragma once
// The fixed transforms of an input's values, in the order of FieldOptions.

#include <cstdint>
#include <span>

#include "io/data_index.hpp"

namespace hadal::io {

bool changes_values(const FieldOptions& options);

// log1p, scale, mean and std of one sample, [channels, …] in float32.
void normalise(std::span<float> values, const FieldOptions& options, std::int64_t channels);

}  // namespace hadal::io
