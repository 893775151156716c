#pragma once
// Element types: the project's and ATen's.

#include <c10/core/ScalarType.h>

#include <optional>

#include "io/dtype.hpp"

namespace hadal::engine {

c10::ScalarType to_aten(io::DType dtype);

// Nothing where the type is none of the plain ones: complex, quantised.
std::optional<io::DType> from_aten(c10::ScalarType type);

}  // namespace hadal::engine
