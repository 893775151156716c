#include "io/zip_archive.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <libdeflate.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "io/error.hpp"

namespace hadal::io {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kLocator64 = 0x07064b50;
constexpr std::uint32_t kDescriptor = 0x08074b50;
constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kCentralBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::uint32_t kIn64 = 0xffffffff;

// Little-endian numbers; zip is little-endian on every machine.
template <class T>
T number(std::span<const std::byte> bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(static_cast<T>(bytes[at + i]) << (8 * i)));
  }
  return value;
}

Error damaged(const std::string& name, const std::string& why) {
  return {ErrorKind::checkpoint, fmt::format("{} is no usable archive: {}", name, why)};
}

std::uint32_t checksum(std::span<const std::byte> bytes) {
  uLong crc = crc32(0L, Z_NULL, 0);
  constexpr std::size_t kPiece = std::size_t{1} << 30;
  for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
    const std::size_t count = std::min(kPiece, bytes.size() - at);
    crc = crc32(crc, reinterpret_cast<const Bytef*>(bytes.data() + at), static_cast<uInt>(count));
  }
  return static_cast<std::uint32_t>(crc);
}

// 64-bit sizes stand in the extra field with id 1, in the order size, stored size, offset, each
// only where its 32-bit field is all ones.
struct Sizes {
  std::uint64_t size, stored, offset;
};

bool widen(std::span<const std::byte> extra, Sizes& sizes) {
  const bool wanted = sizes.size == kIn64 || sizes.stored == kIn64 || sizes.offset == kIn64;
  if (!wanted) return true;
  for (std::size_t at = 0; at + 4 <= extra.size();) {
    const auto id = number<std::uint16_t>(extra, at);
    const std::size_t length = number<std::uint16_t>(extra, at + 2);
    at += 4;
    if (at + length > extra.size()) return false;
    if (id == 1) {
      std::size_t field = at;
      for (std::uint64_t* value : {&sizes.size, &sizes.stored, &sizes.offset}) {
        if (*value != kIn64) continue;
        if (field + 8 > at + length) return false;
        *value = number<std::uint64_t>(extra, field);
        field += 8;
      }
      return true;
    }
    at += length;
  }
  return false;
}

std::vector<std::byte> inflated(std::span<const std::byte> packed, const ZipEntry& entry,
                                const std::string& archive) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(entry.size));
  const std::unique_ptr<libdeflate_decompressor, decltype(&libdeflate_free_decompressor)> decoder(
      libdeflate_alloc_decompressor(), libdeflate_free_decompressor);
  const auto result = libdeflate_deflate_decompress(decoder.get(), packed.data(), packed.size(),
                                                    bytes.data(), bytes.size(), nullptr);
  if (result == LIBDEFLATE_SUCCESS) return bytes;
  throw damaged(archive, fmt::format("the entry {} cannot be inflated", entry.name));
}

}  // namespace

ZipArchive::ZipArchive(const std::filesystem::path& path, ZipMethods methods)
    : name_(path.string()), methods_(methods) {
  const auto fd = std::make_shared<UniqueFd>(open_for_reading(path));
  struct stat status {};
  if (::fstat(fd->get(), &status) != 0) {
    throw system_error(ErrorKind::storage, "cannot read", name_, errno);
  }
  read_ = [fd, path](std::int64_t offset, std::span<std::byte> out) {
    read_at(fd->get(), out, offset, path);
  };
  parse(status.st_size);
}

ZipArchive::ZipArchive(std::span<const std::byte> bytes, const std::string& name) : name_(name) {
  read_ = [bytes](std::int64_t offset, std::span<std::byte> out) {
    if (!out.empty()) std::memcpy(out.data(), bytes.data() + offset, out.size());
  };
  parse(static_cast<std::int64_t>(bytes.size()));
}

// Where the central directory begins, its entries and its bytes.
std::int64_t ZipArchive::find_directory(std::int64_t size, std::int64_t& count,
                                        std::int64_t& bytes) const {
  constexpr std::int64_t kLongestComment = 65535;
  const std::int64_t tail_bytes =
      std::min(size, kLongestComment + static_cast<std::int64_t>(kEndBytes));
  std::vector<std::byte> tail(static_cast<std::size_t>(tail_bytes));
  read_(size - tail_bytes, tail);
  for (std::size_t at = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; at-- > 0;) {
    if (number<std::uint32_t>(tail, at) != kEnd) continue;
    std::uint64_t entries = number<std::uint16_t>(tail, at + 10);
    std::uint64_t length = number<std::uint32_t>(tail, at + 12);
    std::uint64_t begin = number<std::uint32_t>(tail, at + 16);
    std::uint64_t end = static_cast<std::uint64_t>(size - tail_bytes) + at;
    if (at >= kLocatorBytes && number<std::uint32_t>(tail, at - kLocatorBytes) == kLocator64) {
      const auto end64 = number<std::uint64_t>(tail, at - kLocatorBytes + 8);
      if (end64 > end || end - end64 < kEnd64Bytes) {
        throw damaged(name_, "its zip64 record lies outside the file");
      }
      std::array<std::byte, kEnd64Bytes> record{};
      read_(static_cast<std::int64_t>(end64), record);
      if (number<std::uint32_t>(record, 0) != kEnd64) {
        throw damaged(name_, "it has no zip64 record where its end says");
      }
      entries = number<std::uint64_t>(record, 32);
      length = number<std::uint64_t>(record, 40);
      begin = number<std::uint64_t>(record, 48);
      end = end64;
    }
    if (begin > end || length > end - begin || entries > length / kCentralBytes) {
      throw damaged(name_, "its directory does not fit the file; it may be cut off");
    }
    count = static_cast<std::int64_t>(entries);
    bytes = static_cast<std::int64_t>(length);
    return static_cast<std::int64_t>(begin);
  }
  throw damaged(name_, "it has no end record; it is no zip file, or cut off");
}

ZipEntry ZipArchive::parse_entry(std::span<const std::byte> directory, std::size_t& at) const {
  if (directory.size() - at < kCentralBytes ||
      number<std::uint32_t>(directory, at) != kCentralHeader) {
    throw damaged(name_, "its directory is damaged");
  }
  const auto flags = number<std::uint16_t>(directory, at + 8);
  const auto method = number<std::uint16_t>(directory, at + 10);
  const std::size_t name_bytes = number<std::uint16_t>(directory, at + 28);
  const std::size_t extra_bytes = number<std::uint16_t>(directory, at + 30);
  const std::size_t comment_bytes = number<std::uint16_t>(directory, at + 32);
  const std::size_t whole = kCentralBytes + name_bytes + extra_bytes + comment_bytes;
  if (directory.size() - at < whole) throw damaged(name_, "its directory is damaged");
  Sizes sizes{number<std::uint32_t>(directory, at + 24), number<std::uint32_t>(directory, at + 20),
              number<std::uint32_t>(directory, at + 42)};
  ZipEntry entry{
      .name = std::string(reinterpret_cast<const char*>(directory.data() + at + kCentralBytes),
                          name_bytes),
      .crc = number<std::uint32_t>(directory, at + 16),
      .has_descriptor = (flags & 8u) != 0};
  if (!widen(directory.subspan(at + kCentralBytes + name_bytes, extra_bytes), sizes)) {
    throw damaged(name_, fmt::format("the entry {} has no usable size", entry.name));
  }
  entry.deflated = method == 8 && methods_ == ZipMethods::deflate_too;
  if ((flags & 1u) != 0 || (!entry.deflated && (method != 0 || sizes.size != sizes.stored))) {
    throw damaged(name_, fmt::format("the entry {} is compressed or encrypted; torch.export.save "
                                     "stores entries as they are",
                                     entry.name));
  }
  // Deflate makes nothing 1032 times smaller: a larger size is no size.
  if (entry.deflated && sizes.size / 1040 > sizes.stored) {
    throw damaged(name_, fmt::format("the entry {} has no usable size", entry.name));
  }
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / 2);
  entry.size = static_cast<std::int64_t>(std::min(sizes.size, kMost));
  entry.stored_bytes = static_cast<std::int64_t>(std::min(sizes.stored, kMost));
  entry.header = static_cast<std::int64_t>(std::min(sizes.offset, kMost));
  at += whole;
  return entry;
}

// Finds the entry's bytes behind its local header.
void ZipArchive::locate(ZipEntry& entry, std::int64_t limit) const {
  const auto outside = [&] {
    return damaged(name_, fmt::format("the entry {} lies outside the file", entry.name));
  };
  if (entry.header > limit - static_cast<std::int64_t>(kLocalBytes)) throw outside();
  std::array<std::byte, kLocalBytes> header{};
  read_(entry.header, header);
  if (number<std::uint32_t>(header, 0) != kLocalHeader) {
    throw damaged(name_, fmt::format("the entry {} has no header", entry.name));
  }
  entry.begin = entry.header + static_cast<std::int64_t>(kLocalBytes) +
                number<std::uint16_t>(header, 26) + number<std::uint16_t>(header, 28);
  if (entry.begin > limit || entry.stored_bytes > limit - entry.begin) throw outside();
}

void ZipArchive::parse(std::int64_t size) {
  std::int64_t count = 0, bytes = 0;
  const std::int64_t begin = find_directory(size, count, bytes);
  std::vector<std::byte> directory(static_cast<std::size_t>(bytes));
  read_(begin, directory);
  std::vector<ZipEntry> found;
  std::size_t at = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    const auto central = static_cast<std::int64_t>(at);
    found.push_back(parse_entry(directory, at));
    found.back().central = begin + central;
    locate(found.back(), begin);
  }
  std::sort(found.begin(), found.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.header < b.header; });
  for (std::size_t i = 1; i < found.size(); ++i) {
    if (found[i].header < found[i - 1].begin + found[i - 1].stored_bytes) {
      throw damaged(name_,
                    fmt::format("the entries {} and {} overlap", found[i - 1].name, found[i].name));
    }
  }
  for (ZipEntry& entry : found) {
    // PyTorch puts every entry below one folder named after the file.
    const std::size_t slash = entry.name.find('/');
    if (slash != std::string::npos) entry.name.erase(0, slash + 1);
    const std::string name = entry.name;
    if (!entries_.emplace(name, std::move(entry)).second) {
      throw damaged(name_, fmt::format("it has two entries {}", name));
    }
  }
}

const ZipEntry* ZipArchive::find(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

std::vector<std::byte> ZipArchive::read(const ZipEntry& entry) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(entry.stored_bytes));
  read_(entry.begin, bytes);
  if (entry.deflated) bytes = inflated(bytes, entry, name_);
  if (checksum(bytes) != entry.crc) {
    throw damaged(name_, fmt::format("the entry {} does not match its checksum", entry.name));
  }
  return bytes;
}

std::string ZipArchive::read_text(const ZipEntry& entry) const {
  const std::vector<std::byte> bytes = read(entry);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_zip(const std::filesystem::path& path) {
  std::error_code failure;
  if (std::filesystem::file_size(path, failure) < kEndBytes || failure) return false;
  std::array<std::byte, 4> head{};
  read_at(open_for_reading(path).get(), head, 0, path);
  return number<std::uint32_t>(head, 0) == kLocalHeader;
}

void copy_zip_with(const ZipArchive& archive, const std::filesystem::path& source,
                   const std::filesystem::path& target,
                   const std::map<std::string, std::vector<std::byte>>& replaced) {
  const UniqueFd in = open_for_reading(source);
  const UniqueFd out(::open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!out) throw system_error(ErrorKind::storage, "cannot create", target.string(), errno);
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(source));
  std::vector<std::byte> piece(std::size_t{4} << 20);
  for (std::int64_t at = 0; at < size; at += static_cast<std::int64_t>(piece.size())) {
    const std::span<std::byte> part = std::span(piece).first(
        static_cast<std::size_t>(std::min<std::int64_t>(size - at, std::ssize(piece))));
    read_at(in.get(), part, at, source);
    write_at(out.get(), part, at, target);
  }
  for (const auto& [name, bytes] : replaced) {
    const ZipEntry* entry = archive.find(name);
    if (entry == nullptr || entry->size != std::ssize(bytes)) {
      throw Error(ErrorKind::bug, fmt::format("{} cannot take the place of an entry", name));
    }
    write_at(out.get(), bytes, entry->begin, target);
    std::array<std::byte, 4> crc{};
    const std::uint32_t sum = checksum(bytes);
    for (std::size_t i = 0; i < 4; ++i) crc[i] = static_cast<std::byte>(sum >> (8 * i));
    write_at(out.get(), crc, entry->central + 16, target);
    if (!entry->has_descriptor) {
      write_at(out.get(), crc, entry->header + 14, target);
      continue;
    }
    // Behind the bytes, with or without its own signature.
    std::array<std::byte, 4> mark{};
    read_at(in.get(), mark, entry->begin + entry->size, source);
    const std::int64_t skip = number<std::uint32_t>(mark, 0) == kDescriptor ? 4 : 0;
    write_at(out.get(), crc, entry->begin + entry->size + skip, target);
  }
  sync_file(out.get(), target);
}

}  // namespace hadal::io
