#include "io/convert.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

template <class From, class To>
std::optional<io::ConversionFault> try_convert(From value, io::DType from, io::DType to, To& out) {
  return io::convert(std::as_bytes(std::span(&value, 1)), from,
                     std::as_writable_bytes(std::span(&out, 1)), to);
}

}  // namespace

TEST_CASE("conversions keep the value or name it") {
  float f = 0;
  std::int64_t i = 0;
  std::uint8_t u = 0;
  REQUIRE_FALSE(try_convert(std::uint8_t{255}, io::DType::u8, io::DType::f32, f));
  REQUIRE(f == 255.0f);
  REQUIRE_FALSE(try_convert(0.1, io::DType::f64, io::DType::f32, f));
  REQUIRE(f == 0.1f);
  REQUIRE(try_convert(1e300, io::DType::f64, io::DType::f32, f)->value == "1e+300");
  REQUIRE_FALSE(
      try_convert(std::numeric_limits<double>::infinity(), io::DType::f64, io::DType::f32, f));
  REQUIRE_FALSE(try_convert(std::int32_t{16777216}, io::DType::i32, io::DType::f32, f));
  REQUIRE(try_convert(std::int32_t{16777217}, io::DType::i32, io::DType::f32, f));
  REQUIRE(try_convert(std::numeric_limits<std::int64_t>::max(), io::DType::i64, io::DType::f32, f));
  REQUIRE_FALSE(try_convert(2.0f, io::DType::f32, io::DType::i64, i));
  REQUIRE(i == 2);
  REQUIRE(try_convert(2.5f, io::DType::f32, io::DType::i64, i)->value == "2.5");
  REQUIRE(try_convert(std::nanf(""), io::DType::f32, io::DType::i64, i));
  REQUIRE(try_convert(9.3e18f, io::DType::f32, io::DType::i64, i));
  REQUIRE(try_convert(std::uint64_t{1} << 63, io::DType::u64, io::DType::i64, i));
  REQUIRE_FALSE(try_convert(std::int8_t{-1}, io::DType::i8, io::DType::i64, i));
  REQUIRE(i == -1);
  REQUIRE(try_convert(std::int8_t{-1}, io::DType::i8, io::DType::u8, u));
}

TEST_CASE("half precision numbers are exact in float32") {
  const std::vector<std::pair<std::uint16_t, float>> halves = {
      {0x3c00, 1.0f},     {0xc000, -2.0f},
      {0x7bff, 65504.0f}, {0x0001, std::ldexp(1.0f, -24)},
      {0x8000, -0.0f},    {0x03ff, std::ldexp(1023.0f, -24)},
      {0x7c00, INFINITY}};
  for (const auto& [bits, value] : halves) {
    float f = 1;
    REQUIRE_FALSE(try_convert(bits, io::DType::f16, io::DType::f32, f));
    REQUIRE(f == value);
    REQUIRE(std::signbit(f) == std::signbit(value));
  }
  float f = 0;
  REQUIRE_FALSE(try_convert(std::uint16_t{0x7e00}, io::DType::f16, io::DType::f32, f));
  REQUIRE(std::isnan(f));
  REQUIRE_FALSE(try_convert(std::uint16_t{0x3fc0}, io::DType::bf16, io::DType::f32, f));
  REQUIRE(f == 1.5f);
}
