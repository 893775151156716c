#include <cassert>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/planes.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/planes_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
using Bytes = hn::FixedTag<std::uint8_t, 16>;
using Vector = hn::VFromD<Bytes>;

// From 16 bytes of each of kSize planes to the kSize bytes of each of 16 values.
template <std::size_t kSize>
HWY_INLINE void interleave(Vector (&v)[kSize]) {
  const Bytes d;
  for (std::size_t done = 1; done < kSize; done *= 2) {
    Vector w[kSize];
    for (std::size_t k = 0; k < kSize / 2; ++k) {
      w[2 * k] = hn::InterleaveLower(d, v[k], v[k + kSize / 2]);
      w[2 * k + 1] = hn::InterleaveUpper(d, v[k], v[k + kSize / 2]);
    }
    for (std::size_t k = 0; k < kSize; ++k) v[k] = w[k];
  }
}

template <std::size_t kSize>
HWY_INLINE std::size_t join_groups(std::uint8_t* values, const std::uint8_t* planes,
                                   std::size_t count) {
  const Bytes d;
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    Vector v[kSize];
    for (std::size_t j = 0; j < kSize; ++j) v[j] = hn::LoadU(d, planes + j * count + i);
    interleave(v);
    for (std::size_t j = 0; j < kSize; ++j) hn::StoreU(v[j], d, values + i * kSize + 16 * j);
  }
  return i;
}
#endif

void JoinBytePlanes(std::uint8_t* values, const std::uint8_t* planes, std::size_t bytes,
                    std::size_t size) {
  const std::size_t count = bytes / size;
  std::size_t first = 0;
#if HWY_TARGET != HWY_SCALAR
  if (size == 2) first = join_groups<2>(values, planes, count);
  if (size == 4) first = join_groups<4>(values, planes, count);
  if (size == 8) first = join_groups<8>(values, planes, count);
  if (size == 16) first = join_groups<16>(values, planes, count);
#endif
  // A few values at a time, so that what is written stays in the core's cache for the next plane.
  constexpr std::size_t kTogether = 256;
  for (std::size_t i = first; i < count; i += kTogether) {
    const std::size_t end = i + kTogether < count ? i + kTogether : count;
    for (std::size_t j = 0; j < size; ++j) {
      for (std::size_t k = i; k < end; ++k) values[k * size + j] = planes[j * count + k];
    }
  }
  for (std::size_t i = count * size; i < bytes; ++i) values[i] = planes[i];
}

// The eight bytes as a matrix of bits, turned over (Warren 2012, "Hacker's delight", section 7-3).
template <class D, class V>
HWY_INLINE V transpose_bits(D d, V x) {
  V t = hn::And(hn::Xor(x, hn::ShiftRight<7>(x)), hn::Set(d, 0x00AA00AA00AA00AAull));
  x = hn::Xor(x, hn::Xor(t, hn::ShiftLeft<7>(t)));
  t = hn::And(hn::Xor(x, hn::ShiftRight<14>(x)), hn::Set(d, 0x0000CCCC0000CCCCull));
  x = hn::Xor(x, hn::Xor(t, hn::ShiftLeft<14>(t)));
  t = hn::And(hn::Xor(x, hn::ShiftRight<28>(x)), hn::Set(d, 0x00000000F0F0F0F0ull));
  return hn::Xor(x, hn::Xor(t, hn::ShiftLeft<28>(t)));
}

// One plane of bytes from its eight planes of bits, `groups` bytes each.
HWY_INLINE void join_bits(std::uint8_t* plane, const std::uint8_t* bits, std::size_t groups) {
  std::size_t g = 0;
#if HWY_TARGET != HWY_SCALAR
  const Bytes d;
  const hn::Repartition<std::uint64_t, Bytes> wide;
  for (; g + 16 <= groups; g += 16) {
    Vector v[8];
    for (std::size_t b = 0; b < 8; ++b) v[b] = hn::LoadU(d, bits + b * groups + g);
    interleave(v);
    for (std::size_t b = 0; b < 8; ++b) {
      const auto turned = transpose_bits(wide, hn::BitCast(wide, v[b]));
      hn::StoreU(hn::BitCast(d, turned), d, plane + 8 * g + 16 * b);
    }
  }
#endif
  const hn::CappedTag<std::uint64_t, 1> one;
  for (; g < groups; ++g) {
    std::uint8_t rows[8];
    for (std::size_t b = 0; b < 8; ++b) rows[b] = bits[b * groups + g];
    std::uint64_t x = 0;
    std::memcpy(&x, rows, sizeof x);
    x = hn::GetLane(transpose_bits(one, hn::Set(one, x)));
    std::memcpy(plane + 8 * g, &x, sizeof x);
  }
}

void JoinBitPlanes(std::uint8_t* values, const std::uint8_t* planes, std::size_t bytes,
                   std::size_t size) {
  const std::size_t count = bytes / size;
  thread_local std::vector<std::uint8_t> memory;
  if (memory.size() < bytes) memory.resize(bytes);
  std::uint8_t* const byte_planes = size == 1 ? values : memory.data();
  for (std::size_t j = 0; j < size; ++j)
    join_bits(byte_planes + j * count, planes + j * count, count / 8);
  if (size > 1) JoinBytePlanes(values, byte_planes, bytes, size);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
namespace {

std::uint8_t* as_bytes(std::byte* at) { return reinterpret_cast<std::uint8_t*>(at); }
const std::uint8_t* as_bytes(const std::byte* at) {
  return reinterpret_cast<const std::uint8_t*>(at);
}

}  // namespace

HWY_EXPORT(JoinBytePlanes);
HWY_EXPORT(JoinBitPlanes);

void join_byte_planes(std::span<std::byte> values, std::span<const std::byte> planes,
                      std::size_t size) {
  assert(values.size() == planes.size());
  HWY_DYNAMIC_DISPATCH(JoinBytePlanes)
  (as_bytes(values.data()), as_bytes(planes.data()), values.size(), size);
}

void join_bit_planes(std::span<std::byte> values, std::span<const std::byte> planes,
                     std::size_t size) {
  assert(values.size() == planes.size() && values.size() % (8 * size) == 0);
  HWY_DYNAMIC_DISPATCH(JoinBitPlanes)
  (as_bytes(values.data()), as_bytes(planes.data()), values.size(), size);
}

}  // namespace hadal::kernels
#endif
