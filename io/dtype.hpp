#pragma once
// The scalar types that files and tensors hold, under their safetensors names.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::io {

enum class DType { boolean, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64 };

std::int64_t size_bytes(DType dtype);

bool is_floating(DType dtype);

// "float32", "int64", …: the names of numpy and PyTorch, used in configs and messages.
std::string_view name_of(DType dtype);
std::optional<DType> dtype_named(std::string_view name);

// "F32", "I64", …: the names inside a safetensors header.
std::string_view safetensors_name(DType dtype);
std::optional<DType> dtype_of_safetensors(std::string_view name);

using Shape = std::vector<std::int64_t>;

// Product of the extents (1 for a scalar).
std::int64_t element_count(const Shape& shape);

// "[3, 224, 224]"
std::string to_string(const Shape& shape);

}  // namespace hadal::io
