#include "io/dtype.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

namespace hadal::io {
namespace {

struct Row {
  DType dtype;
  std::int64_t bytes;
  bool floating;
  std::string_view name;
  std::string_view safetensors;
};

constexpr std::array kRows = {
    Row{DType::boolean, 1, false, "bool", "BOOL"}, Row{DType::u8, 1, false, "uint8", "U8"},
    Row{DType::i8, 1, false, "int8", "I8"},        Row{DType::u16, 2, false, "uint16", "U16"},
    Row{DType::i16, 2, false, "int16", "I16"},     Row{DType::u32, 4, false, "uint32", "U32"},
    Row{DType::i32, 4, false, "int32", "I32"},     Row{DType::u64, 8, false, "uint64", "U64"},
    Row{DType::i64, 8, false, "int64", "I64"},     Row{DType::f16, 2, true, "float16", "F16"},
    Row{DType::bf16, 2, true, "bfloat16", "BF16"}, Row{DType::f32, 4, true, "float32", "F32"},
    Row{DType::f64, 8, true, "float64", "F64"},
};

const Row& row(DType dtype) { return kRows[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::int64_t size_bytes(DType dtype) { return row(dtype).bytes; }
bool is_floating(DType dtype) { return row(dtype).floating; }
std::string_view name_of(DType dtype) { return row(dtype).name; }
std::string_view safetensors_name(DType dtype) { return row(dtype).safetensors; }

std::optional<DType> dtype_named(std::string_view name) {
  for (const Row& r : kRows) {
    if (r.name == name) return r.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_of_safetensors(std::string_view name) {
  for (const Row& r : kRows) {
    if (r.safetensors == name) return r.dtype;
  }
  return std::nullopt;
}

std::int64_t element_count(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace hadal::io
