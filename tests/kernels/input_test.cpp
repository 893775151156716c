#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/planes.hpp"
#include "kernels/streamed_copy.hpp"
#include "kernels/values.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace hadal;
using tests::on_every_target;

namespace {

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937 engine(7);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(engine());
  return bytes;
}

template <class In>
void check_widening() {
  std::vector<In> in;
  for (std::int64_t value = std::numeric_limits<In>::min(); value <= std::numeric_limits<In>::max();
       ++value) {
    in.push_back(static_cast<In>(value));
  }
  in.push_back(In{3});  // no multiple of any vector
  std::vector<float> out(in.size());
  kernels::widen(out, in);
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (out[i] != static_cast<float>(in[i])) FAIL(out[i] << " instead of " << in[i]);
  }
}

}  // namespace

TEST_CASE("a streamed copy is a copy, at any alignment, on every instruction set") {
  on_every_target([] {
    const std::vector<std::byte> from = random_bytes(5000);
    for (const std::size_t shift : {0u, 1u, 16u, 64u}) {
      for (const std::size_t size : {0u, 1u, 63u, 64u, 4097u}) {
        CAPTURE(shift, size);
        alignas(64) std::array<std::byte, 5000> to{};
        kernels::streamed_copy(std::span(to).subspan(shift, size),
                               std::span(from).subspan(7, size));
        REQUIRE(std::equal(from.begin() + 7, from.begin() + 7 + static_cast<std::ptrdiff_t>(size),
                           to.begin() + static_cast<std::ptrdiff_t>(shift)));
        REQUIRE(to[shift + size] == std::byte{0});
      }
    }
  });
}

TEST_CASE("planes are joined as they were split, on every instruction set") {
  on_every_target([] {
    for (const std::size_t size : {1u, 2u, 3u, 4u, 8u, 12u, 16u, 20u}) {
      for (const std::size_t count : {0u, 1u, 8u, 15u, 16u, 136u, 1000u}) {
        CAPTURE(size, count);
        const std::vector<std::byte> values = random_bytes(size * count + size / 2);
        std::vector<std::byte> planes = values;
        for (std::size_t i = 0; i < count; ++i) {
          for (std::size_t j = 0; j < size; ++j) planes[j * count + i] = values[i * size + j];
        }
        std::vector<std::byte> joined(values.size());
        kernels::join_byte_planes(joined, planes, size);
        REQUIRE(joined == values);
        if (count % 8 != 0) continue;
        const std::vector<std::byte> whole(
            values.begin(), values.begin() + static_cast<std::ptrdiff_t>(size * count));
        std::vector<std::byte> bits(whole.size(), std::byte{0});
        for (std::size_t i = 0; i < count; ++i) {
          for (std::size_t b = 0; b < 8 * size; ++b) {
            const bool set = (whole[i * size + b / 8] >> (b % 8) & std::byte{1}) != std::byte{0};
            if (set) bits[b * count / 8 + i / 8] |= std::byte{1} << (i % 8);
          }
        }
        std::vector<std::byte> from_bits(whole.size());
        kernels::join_bit_planes(from_bits, bits, size);
        REQUIRE(from_bits == whole);
      }
    }
  });
}

TEST_CASE("values are widened and normalised as written down, on every instruction set") {
  on_every_target([] {
    check_widening<std::uint8_t>();
    check_widening<std::int8_t>();
    check_widening<std::uint16_t>();
    check_widening<std::int16_t>();
    std::vector<float> values(1003);
    std::mt19937 engine(3);
    std::normal_distribution<float> normal(0, 100);
    for (float& value : values) value = normal(engine);
    std::vector<float> found = values;
    kernels::normalise(found, 0.3f, 1.7f, 2.9f);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float scaled = values[i] * 0.3f;
      if (found[i] != (scaled - 1.7f) / 2.9f) FAIL(found[i]);
    }
  });
}

TEST_CASE("one value that is not finite is seen wherever it stands, on every instruction set") {
  on_every_target([] {
    for (const std::size_t count : {0u, 1u, 7u, 64u, 131u}) {
      std::vector<float> values(count, -3.4e38f);
      REQUIRE(kernels::all_finite(values));
      for (std::size_t i = 0; i < count; ++i) {
        for (const float bad : {INFINITY, -INFINITY, NAN, -NAN}) {
          values[i] = bad;
          if (kernels::all_finite(values)) FAIL(bad << " at " << i << " of " << count);
        }
        values[i] = 1e-42f;
      }
    }
  });
}
