#include "io/convert.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "io/error.hpp"
#include "kernels/values.hpp"

namespace hadal::io {
namespace {

struct Half {
  std::uint16_t bits;
};
struct Brain {
  std::uint16_t bits;
};

// IEEE 754 binary16 to binary32, subnormals included.
float to_float(Half half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (half.bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = half.bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 0x1fu ? 0xffu : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

float to_float(Brain brain) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(brain.bits) << 16);
}

template <class T>
auto plain(T value) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, Brain>) {
    return to_float(value);
  } else {
    return value;
  }
}

template <class To, class From>
bool fits(From value, To& out) {
  if constexpr (std::is_floating_point_v<To> && std::is_floating_point_v<From>) {
    out = static_cast<To>(value);
    return std::isfinite(out) || !std::isfinite(value);
  } else if constexpr (std::is_floating_point_v<To>) {
    out = static_cast<To>(value);
    // Compared in the integer's own range: 2^63 as a float does not fit back into int64.
    if (out >= std::ldexp(To{1}, std::numeric_limits<From>::digits)) return false;
    return static_cast<From>(out) == value;
  } else if constexpr (std::is_floating_point_v<From>) {
    const auto limit = std::ldexp(From{1}, std::numeric_limits<To>::digits);
    if (!(value >= (std::is_signed_v<To> ? -limit : From{0}) && value < limit)) return false;
    out = static_cast<To>(value);
    return static_cast<From>(out) == value;
  } else {
    out = static_cast<To>(value);
    return std::in_range<To>(value);
  }
}

template <class From, class To>
constexpr bool kWidens = std::is_same_v<To, float>&& std::is_integral_v<From> && sizeof(From) <= 2;

template <class From, class To>
std::optional<ConversionFault> convert_all(std::span<const std::byte> from,
                                           std::span<std::byte> to) {
  const std::size_t count = from.size() / sizeof(From);
  if constexpr (kWidens<From, To>) {
    kernels::widen({reinterpret_cast<float*>(to.data()), count},
                   std::span(reinterpret_cast<const From*>(from.data()), count));
    return std::nullopt;
  }
  for (std::size_t i = 0; i < count; ++i) {
    From stored;
    std::memcpy(&stored, from.data() + i * sizeof(From), sizeof(From));
    To out{};
    if (!fits(plain(stored), out)) {
      return ConversionFault{static_cast<std::int64_t>(i), fmt::format("{}", plain(stored))};
    }
    std::memcpy(to.data() + i * sizeof(To), &out, sizeof(To));
  }
  return std::nullopt;
}

template <class Visitor>
auto visit(DType dtype, Visitor visitor) {
  switch (dtype) {
    case DType::boolean:
    case DType::u8:
      return visitor(std::uint8_t{});
    case DType::i8:
      return visitor(std::int8_t{});
    case DType::u16:
      return visitor(std::uint16_t{});
    case DType::i16:
      return visitor(std::int16_t{});
    case DType::u32:
      return visitor(std::uint32_t{});
    case DType::i32:
      return visitor(std::int32_t{});
    case DType::u64:
      return visitor(std::uint64_t{});
    case DType::i64:
      return visitor(std::int64_t{});
    case DType::f16:
      return visitor(Half{});
    case DType::bf16:
      return visitor(Brain{});
    case DType::f32:
      return visitor(float{});
    case DType::f64:
      return visitor(double{});
  }
  throw Error(ErrorKind::bug, "a dtype without a conversion");
}

}  // namespace

std::optional<ConversionFault> convert(std::span<const std::byte> from, DType from_dtype,
                                       std::span<std::byte> to, DType to_dtype) {
  if (from_dtype == to_dtype) {
    if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
    return std::nullopt;
  }
  return visit(from_dtype, [&](auto stored) -> std::optional<ConversionFault> {
    using From = decltype(stored);
    switch (to_dtype) {
      case DType::f32:
        return convert_all<From, float>(from, to);
      case DType::i64:
        return convert_all<From, std::int64_t>(from, to);
      case DType::u8:
        return convert_all<From, std::uint8_t>(from, to);
      default:
        throw Error(ErrorKind::bug, fmt::format("no conversion to {}", name_of(to_dtype)));
    }
  });
}

double value_at(std::span<const std::byte> bytes, DType dtype, std::int64_t element) {
  return visit(dtype, [&](auto stored) {
    std::memcpy(&stored, bytes.data() + static_cast<std::size_t>(element) * sizeof stored,
                sizeof stored);
    return static_cast<double>(plain(stored));
  });
}

std::optional<std::vector<std::byte>> stored_as(double value, DType dtype) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size_bytes(dtype)));
  const auto put = [&](auto number, bool is_exact) -> std::optional<std::vector<std::byte>> {
    std::memcpy(bytes.data(), &number, sizeof number);
    if (is_exact) return bytes;
    return std::nullopt;
  };
  const auto whole = [&]<class T>(T) {
    const double least = static_cast<double>(std::numeric_limits<T>::min());
    const bool fits_it = value == std::floor(value) && value >= least &&
                         value < std::ldexp(1.0, std::numeric_limits<T>::digits);
    return put(fits_it ? static_cast<T>(value) : T{}, fits_it);
  };
  switch (dtype) {
    case DType::boolean:
      return put(static_cast<std::uint8_t>(value != 0), value == 0 || value == 1);
    case DType::u8:
      return whole(std::uint8_t{});
    case DType::i8:
      return whole(std::int8_t{});
    case DType::u16:
      return whole(std::uint16_t{});
    case DType::i16:
      return whole(std::int16_t{});
    case DType::u32:
      return whole(std::uint32_t{});
    case DType::i32:
      return whole(std::int32_t{});
    case DType::u64:
      return whole(std::uint64_t{});
    case DType::i64:
      return whole(std::int64_t{});
    case DType::f32:
      return put(static_cast<float>(value), true);
    case DType::f64:
      return put(value, true);
    case DType::f16:
    case DType::bf16:
      // The bits of a short float that is exact: found by trying them all.
      for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const float wide = dtype == DType::f16 ? to_float(Half{half}) : to_float(Brain{half});
        if (static_cast<double>(wide) == value) return put(half, true);
      }
      return std::nullopt;
  }
  return std::nullopt;
}

bool always_exact(DType from, DType to) { return !(from == DType::f64 && to == DType::f32); }

}  // namespace hadal::io
