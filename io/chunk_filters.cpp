#include "io/chunk_filters.hpp"

#include <fmt/format.h>
#include <libdeflate.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "io/blosc2_chunk.hpp"
#include "kernels/planes.hpp"
#ifdef HADAL_HAS_BLOSC
#include <blosc.h>
#endif
#ifdef HADAL_HAS_SZIP
extern "C" {  // the header does not say so itself
#include <szlib.h>
}
#endif

namespace hadal::io {
namespace {

using Bytes = std::span<const std::byte>;
using Room = std::span<std::byte>;

enum Id : std::int32_t {
  kDeflate = 1,
  kShuffle = 2,
  kFletcher32 = 3,
  kSzip = 4,
  kNbit = 5,
  kScaleOffset = 6,
  kBzip2 = 307,
  kLzf = 32000,
  kBlosc = 32001,
  kLz4 = 32004,
  kBitshuffle = 32008,
  kZfp = 32013,
  kZstd = 32015,
  kBlosc2 = 32026
};

constexpr std::array<std::pair<std::int32_t, const char*>, 14> kNames = {
    {{kDeflate, "deflate"},
     {kShuffle, "shuffle"},
     {kFletcher32, "fletcher32"},
     {kSzip, "szip"},
     {kNbit, "nbit"},
     {kScaleOffset, "scaleoffset"},
     {kBzip2, "bzip2"},
     {kLzf, "lzf"},
     {kBlosc, "blosc"},
     {kLz4, "lz4"},
     {kBitshuffle, "bitshuffle"},
     {kZfp, "zfp"},
     {kZstd, "zstd"},
     {kBlosc2, "blosc2"}}};

std::uint64_t big_endian(Bytes bytes, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i)
    value = value << 8 | static_cast<std::uint64_t>(bytes[at + i]);
  return value;
}

std::string too_short(const char* what) { return fmt::format("its {} data end too early", what); }

std::string damaged(const char* what) { return fmt::format("its {} data are damaged", what); }

std::string inflate(Bytes in, Room out) {
  struct Free {
    void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
  };
  thread_local const std::unique_ptr<libdeflate_decompressor, Free> decompressor(
      libdeflate_alloc_decompressor());
  std::size_t written = 0;
  const libdeflate_result result = libdeflate_zlib_decompress(
      decompressor.get(), in.data(), in.size(), out.data(), out.size(), &written);
  return result == LIBDEFLATE_SUCCESS && written == out.size() ? "" : damaged("deflate");
}

// Sums of 16-bit words, modulo 65535 (HDF5 File Format Specification 3.0, section IV.A.2.l).
std::uint32_t fletcher32(Bytes bytes) {
  std::uint32_t first = 0, second = 0;
  std::size_t at = 0;
  for (std::size_t words = bytes.size() / 2; words > 0;) {
    // As many as cannot overflow 32 bits.
    const std::size_t now = std::min<std::size_t>(words, 360);
    words -= now;
    for (std::size_t k = 0; k < now; ++k, at += 2) {
      first += std::to_integer<std::uint32_t>(bytes[at]) << 8 |
               std::to_integer<std::uint32_t>(bytes[at + 1]);
      second += first;
    }
    first = (first & 0xffff) + (first >> 16);
    second = (second & 0xffff) + (second >> 16);
  }
  if (bytes.size() % 2 != 0) {
    first += std::to_integer<std::uint32_t>(bytes[at]) << 8;
    second += first;
    first = (first & 0xffff) + (first >> 16);
    second = (second & 0xffff) + (second >> 16);
  }
  first = (first & 0xffff) + (first >> 16);
  second = (second & 0xffff) + (second >> 16);
  return second << 16 | first;
}

std::string verify_fletcher32(Bytes in, Bytes& inside) {
  if (in.size() < 4) return too_short("fletcher32");
  inside = in.first(in.size() - 4);
  std::uint32_t stored = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    stored |= std::to_integer<std::uint32_t>(in[inside.size() + i]) << (8 * i);
  }
  const std::uint32_t found = fletcher32(inside);
  // Some early writers had the bytes of each half the other way round.
  const std::uint32_t turned = (found & 0x00ff00ffu) << 8 | (found & 0xff00ff00u) >> 8;
  return stored == found || stored == turned ? "" : "its fletcher32 checksum does not match";
}

std::string unpack_lzf(Bytes in, Room out) {
  std::size_t at = 0, done = 0;
  while (at < in.size()) {
    const auto control = std::to_integer<std::size_t>(in[at++]);
    if (control < 32) {
      const std::size_t count = control + 1;
      if (count > in.size() - at || count > out.size() - done) return damaged("lzf");
      std::memcpy(out.data() + done, in.data() + at, count);
      at += count;
      done += count;
      continue;
    }
    std::size_t count = control >> 5;
    if (count == 7) {
      if (at == in.size()) return too_short("lzf");
      count += std::to_integer<std::size_t>(in[at++]);
    }
    count += 2;
    if (at == in.size()) return too_short("lzf");
    const std::size_t back = ((control & 31) << 8 | std::to_integer<std::size_t>(in[at++])) + 1;
    if (back > done || count > out.size() - done) return damaged("lzf");
    // Byte by byte: the copy may overlap what it writes.
    for (std::size_t k = 0; k < count; ++k, ++done) out[done] = out[done - back];
  }
  return done == out.size() ? "" : too_short("lzf");
}

std::string unpack_lz4_block(Bytes in, Room out) {
  const int written = LZ4_decompress_safe(
      reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(out.data()),
      static_cast<int>(in.size()), static_cast<int>(out.size()));
  return written == static_cast<int>(out.size()) ? "" : damaged("lz4");
}

std::string unpack_zstd(Bytes in, Room out) {
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  thread_local const std::unique_ptr<ZSTD_DCtx, Free> context(ZSTD_createDCtx());
  const std::size_t written =
      ZSTD_decompressDCtx(context.get(), out.data(), out.size(), in.data(), in.size());
  return written == out.size() ? "" : damaged("zstd");
}

// 8 bytes size, 4 bytes size of a block, then for each block 4 bytes size and its data; a block
// that did not get smaller lies as it is. All sizes big-endian.
std::string unpack_lz4(Bytes in, Room out) {
  if (in.size() < 12) return too_short("lz4");
  const std::uint64_t block = big_endian(in, 8, 4);
  if (big_endian(in, 0, 8) != out.size() || block == 0) return damaged("lz4");
  std::size_t at = 12;
  for (std::size_t done = 0; done < out.size();) {
    const std::size_t count = std::min<std::size_t>(block, out.size() - done);
    if (in.size() - at < 4) return too_short("lz4");
    const std::size_t packed = big_endian(in, at, 4);
    at += 4;
    if (packed > in.size() - at) return too_short("lz4");
    if (packed == count) {
      std::memcpy(out.data() + done, in.data() + at, count);
    } else if (std::string fault =
                   unpack_lz4_block(in.subspan(at, packed), out.subspan(done, count));
               !fault.empty()) {
      return fault;
    }
    at += packed;
    done += count;
  }
  return {};
}

// Parameters: two of the version, the size of an element, elements of a block (0: what fills 8
// KiB), the compressor (0 none, 2 lz4, 3 zstd). Compressed data begin like those of lz4.
std::string unpack_bitshuffle(Bytes in, Room out, const std::vector<std::uint32_t>& values) {
  const std::size_t size = values[2];
  const std::uint32_t compressor = values.size() > 4 ? values[4] : 0;
  std::size_t block = values.size() > 3 ? values[3] : 0;
  if (block == 0) block = std::max<std::size_t>(8192 / size / 8 * 8, 128);
  std::size_t at = 0;
  if (compressor != 0) {
    if (in.size() < 12) return too_short("bitshuffle");
    if (big_endian(in, 0, 8) != out.size()) return damaged("bitshuffle");
    block = big_endian(in, 8, 4) / size;
    at = 12;
  }
  if (block == 0 || block % 8 != 0) return damaged("bitshuffle");
  thread_local std::vector<std::byte> memory;
  memory.resize(std::min(block * size, out.size()));
  // The last block holds what is left, in whole groups of eight; fewer than eight lie as they are.
  std::size_t done = 0;
  while (out.size() - done >= 8 * size) {
    const std::size_t elements = std::min(block, (out.size() - done) / size / 8 * 8);
    const std::size_t count = elements * size;
    Bytes planes;
    if (compressor == 0) {
      if (in.size() - at < count) return too_short("bitshuffle");
      planes = in.subspan(at, count);
      at += count;
    } else {
      if (in.size() - at < 4) return too_short("bitshuffle");
      const std::size_t packed = big_endian(in, at, 4);
      at += 4;
      if (packed > in.size() - at) return too_short("bitshuffle");
      const Room room = std::span(memory).first(count);
      std::string fault = compressor == 2 ? unpack_lz4_block(in.subspan(at, packed), room)
                                          : unpack_zstd(in.subspan(at, packed), room);
      if (!fault.empty()) return fault;
      planes = room;
      at += packed;
    }
    kernels::join_bit_planes(out.subspan(done, count), planes, size);
    done += count;
  }
  if (in.size() - at < out.size() - done) return too_short("bitshuffle");
  if (done < out.size()) std::memcpy(out.data() + done, in.data() + at, out.size() - done);
  return {};
}

#ifdef HADAL_HAS_BLOSC
std::string unpack_blosc(Bytes in, Room out) {
  std::size_t bytes = 0;
  if (blosc_cbuffer_validate(in.data(), in.size(), &bytes) < 0 || bytes != out.size())
    return damaged("blosc");
  const int written = blosc_decompress_ctx(in.data(), out.data(), out.size(), 1);
  return written == static_cast<int>(out.size()) ? "" : damaged("blosc");
}
#endif

#ifdef HADAL_HAS_SZIP
// 4 bytes size, little-endian, then the data.
std::string unpack_szip(Bytes in, Room out, const std::vector<std::uint32_t>& values) {
  if (in.size() < 4) return too_short("szip");
  SZ_com_t options{.options_mask = static_cast<int>(values[0]),
                   .bits_per_pixel = static_cast<int>(values[2]),
                   .pixels_per_block = static_cast<int>(values[1]),
                   .pixels_per_scanline = static_cast<int>(values[3])};
  std::size_t written = out.size();
  const int result =
      SZ_BufftoBuffDecompress(out.data(), &written, in.data() + 4, in.size() - 4, &options);
  return result == SZ_OK && written == out.size() ? "" : damaged("szip");
}
#endif

bool is_compressor(std::int32_t id) { return id != kShuffle && id != kFletcher32; }

std::string reason_against(const ChunkFilter& filter) {
  const auto with = [&](std::size_t count) {
    return filter.values.size() >= count
               ? std::string()
               : fmt::format("its {} lacks parameters", filter_name(filter.id));
  };
  switch (filter.id) {
    case kDeflate:
    case kFletcher32:
    case kLzf:
    case kLz4:
    case kZstd:
      return {};
    case kShuffle:
      // Without parameters no chunk can have gone through it, and each says so.
      return !filter.values.empty() && filter.values[0] == 0 ? "its shuffle lacks parameters" : "";
    case kBitshuffle:
      if (filter.values.size() < 3 || filter.values[2] == 0)
        return "its bitshuffle lacks parameters";
      return filter.values.size() > 4 && filter.values[4] != 0 && filter.values[4] != 2 &&
                     filter.values[4] != 3
                 ? "its bitshuffle has a compressor of an unknown kind"
                 : "";
#ifdef HADAL_HAS_BLOSC
    case kBlosc:
      return {};
#endif
#ifdef HADAL_HAS_SZIP
    case kSzip:
      return with(4);
#endif
    case kBlosc2:
      if (has_blosc2()) return {};
      [[fallthrough]];
    default:
      static_cast<void>(with);
      return fmt::format("{} is decoded by the HDF5 library", filter_name(filter.id));
  }
}

}  // namespace

std::string optional_decoders() {
  std::string names;
  for (const auto& [id, name] :
       {std::pair{kBlosc, "blosc"}, {kBlosc2, "blosc2"}, {kSzip, "szip"}}) {
    const ChunkFilter filter{.id = id, .values = std::vector<std::uint32_t>(8, 1)};
    if (reason_against(filter).empty())
      names += fmt::format("{}{}", names.empty() ? "" : " ", name);
  }
  return names;
}

std::string filter_name(std::int32_t id) {
  for (const auto& [known, name] : kNames) {
    if (known == id) return name;
  }
  return fmt::format("filter {}", id);
}

std::string ChunkFilters::reason_not_here() const {
  std::size_t compressors = 0;
  for (const ChunkFilter& filter : filters_) {
    if (std::string reason = reason_against(filter); !reason.empty()) return reason;
    if (is_compressor(filter.id)) ++compressors;
  }
  if (chunk_bytes_ > std::size_t{1} << 30) return "its chunks have more than 1 GiB";
  // How long the data are between two of them is not known.
  return compressors > 1 ? "it is compressed twice" : "";
}

bool ChunkFilters::may_crash() const {
  return std::any_of(filters_.begin(), filters_.end(),
                     [](const ChunkFilter& filter) { return filter.id == kBlosc2; });
}

std::string ChunkFilters::decode(Bytes stored, std::uint32_t mask, Room out) const {
  const auto applied = [&](std::size_t i) { return (mask >> i & 1u) == 0; };
  // Sizes before each filter; behind a compressor they do not matter.
  std::vector<std::size_t> sizes{chunk_bytes_};
  std::size_t steps = 0;
  for (std::size_t i = 0; i < filters_.size(); ++i) {
    const bool checksum = applied(i) && filters_[i].id == kFletcher32;
    sizes.push_back(sizes.back() + (checksum ? 4 : 0));
    if (applied(i) && !checksum) ++steps;
  }
  thread_local std::array<std::vector<std::byte>, 2> memory;
  std::size_t turn = 0;
  Bytes data = stored;
  for (std::size_t i = filters_.size(); i-- > 0;) {
    if (!applied(i)) continue;
    const ChunkFilter& filter = filters_[i];
    if (filter.id == kFletcher32) {
      if (std::string fault = verify_fletcher32(data, data); !fault.empty()) return fault;
      continue;
    }
    Room room = out;
    // The last step writes into the result, unless a checksum stands before it.
    if (--steps > 0 || sizes[i] != out.size()) {
      std::vector<std::byte>& buffer = memory[turn++ % 2];
      if (buffer.size() < sizes[i]) buffer.resize(sizes[i]);
      room = std::span(buffer).first(sizes[i]);
    }
    std::string fault;
    switch (filter.id) {
      case kDeflate:
        fault = inflate(data, room);
        break;
      case kShuffle:
        if (data.size() != room.size()) return "it has the wrong size";
        if (filter.values.empty()) return "its shuffle lacks parameters";
        kernels::join_byte_planes(room, data, filter.values[0]);
        break;
      case kLzf:
        fault = unpack_lzf(data, room);
        break;
      case kLz4:
        fault = unpack_lz4(data, room);
        break;
      case kZstd:
        fault = unpack_zstd(data, room);
        break;
      case kBitshuffle:
        fault = unpack_bitshuffle(data, room, filter.values);
        break;
#ifdef HADAL_HAS_BLOSC
      case kBlosc:
        fault = unpack_blosc(data, room);
        break;
#endif
#ifdef HADAL_HAS_SZIP
      case kSzip:
        fault = unpack_szip(data, room, filter.values);
        break;
#endif
      case kBlosc2:
        fault = unpack_blosc2(data, room) ? "" : damaged("blosc2");
        break;
      default:
        return fmt::format("{} is not known here", filter_name(filter.id));
    }
    if (!fault.empty()) return fault;
    data = room;
  }
  if (data.data() == out.data()) return {};
  if (data.size() != out.size()) return "it has the wrong size";
  std::ranges::copy(data, out.begin());
  return {};
}

}  // namespace hadal::io
