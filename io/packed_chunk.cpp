#include "io/packed_chunk.hpp"

#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

namespace hadal::io {
namespace {

constexpr int kDeflateLevel = 6;
constexpr int kZstdLevel = 3;
// Of the HDF5 filter's own default.
constexpr std::size_t kLz4Block = std::size_t{1} << 30;

void append_big_endian(std::vector<std::byte>& out, std::uint64_t value, int bytes) {
  for (int b = bytes - 1; b >= 0; --b) out.push_back(static_cast<std::byte>(value >> (8 * b)));
}

std::vector<std::byte> split_planes(std::span<const std::byte> raw, std::size_t size) {
  std::vector<std::byte> planes(raw.size());
  const std::size_t count = raw.size() / size;
  for (std::size_t j = 0; j < size; ++j) {
    for (std::size_t i = 0; i < count; ++i) planes[j * count + i] = raw[i * size + j];
  }
  return planes;
}

std::vector<std::byte> deflated(std::span<const std::byte> raw) {
  const std::unique_ptr<libdeflate_compressor, decltype(&libdeflate_free_compressor)> packer(
      libdeflate_alloc_compressor(kDeflateLevel), libdeflate_free_compressor);
  std::vector<std::byte> out(libdeflate_zlib_compress_bound(packer.get(), raw.size()));
  out.resize(
      libdeflate_zlib_compress(packer.get(), raw.data(), raw.size(), out.data(), out.size()));
  return out;
}

std::vector<std::byte> with_zstd(std::span<const std::byte> raw) {
  std::vector<std::byte> out(ZSTD_compressBound(raw.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), raw.data(), raw.size(), kZstdLevel));
  return out;
}

// The whole length, the length of a block, and each block behind its own: a block that does not
// shrink is stored as it is.
std::vector<std::byte> with_lz4(std::span<const std::byte> raw) {
  std::vector<std::byte> out;
  const std::size_t block = std::min(raw.size(), kLz4Block);
  append_big_endian(out, raw.size(), 8);
  append_big_endian(out, block, 4);
  for (std::size_t at = 0; at < raw.size(); at += block) {
    const std::span<const std::byte> part = raw.subspan(at, std::min(block, raw.size() - at));
    std::vector<char> packed(
        static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(part.size()))));
    const int bytes =
        LZ4_compress_default(reinterpret_cast<const char*>(part.data()), packed.data(),
                             static_cast<int>(part.size()), static_cast<int>(packed.size()));
    const bool shrinks = bytes > 0 && static_cast<std::size_t>(bytes) < part.size();
    const std::span<const std::byte> kept =
        shrinks ? std::as_bytes(std::span(packed)).first(static_cast<std::size_t>(bytes)) : part;
    append_big_endian(out, kept.size(), 4);
    out.insert(out.end(), kept.begin(), kept.end());
  }
  return out;
}

}  // namespace

std::vector<std::byte> pack_chunk(std::span<const std::byte> raw, ShardFilter filter,
                                  std::size_t value_bytes) {
  std::vector<std::byte> planes;
  if (value_bytes > 1) {
    planes = split_planes(raw, value_bytes);
    raw = planes;
  }
  switch (filter) {
    case ShardFilter::gzip:
      return deflated(raw);
    case ShardFilter::zstd:
      return with_zstd(raw);
    default:
      return with_lz4(raw);
  }
}

}  // namespace hadal::io
