#pragma once
// Numbers from their stored type to the type that a batch holds, losing nothing: integers must fit
// exactly, floats may round to the nearest but not overflow, floats become integers only where they
// are whole.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::io {

struct ConversionFault {
  std::int64_t element = 0;
  std::string value;  // as text
};

// Converts `count` values. `to` is float32, int64 or uint8. Returns the first value that does not
// fit (the output is then unspecified).
std::optional<ConversionFault> convert(std::span<const std::byte> from, DType from_dtype,
                                       std::span<std::byte> to, DType to_dtype);

// Values as float64 (f16 and bf16 included), for statistics and messages.
double value_at(std::span<const std::byte> bytes, DType dtype, std::int64_t element);

// A number as a file would hold it, in this machine's byte order. Empty where the type cannot.
std::optional<std::vector<std::byte>> stored_as(double value, DType dtype);

// False where some float conversions round (float64 to float32): said once in the log.
bool always_exact(DType from, DType to);

}  // namespace hadal::io
