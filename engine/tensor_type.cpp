#include "engine/tensor_type.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace hadal::engine {
namespace {

using enum io::DType;

constexpr std::pair<io::DType, c10::ScalarType> kTypes[] = {
    {boolean, c10::ScalarType::Bool},  {u8, c10::ScalarType::Byte},
    {i8, c10::ScalarType::Char},       {i16, c10::ScalarType::Short},
    {u16, c10::ScalarType::UInt16},    {i32, c10::ScalarType::Int},
    {u32, c10::ScalarType::UInt32},    {i64, c10::ScalarType::Long},
    {u64, c10::ScalarType::UInt64},    {f16, c10::ScalarType::Half},
    {bf16, c10::ScalarType::BFloat16}, {f32, c10::ScalarType::Float},
    {f64, c10::ScalarType::Double}};

}  // namespace

c10::ScalarType to_aten(io::DType dtype) {
  const auto* const found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                         [&](const auto& pair) { return pair.first == dtype; });
  return found->second;
}

std::optional<io::DType> from_aten(c10::ScalarType type) {
  const auto* const found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                         [&](const auto& pair) { return pair.second == type; });
  return found == std::end(kTypes) ? std::nullopt : std::optional(found->first);
}

}  // namespace hadal::engine
