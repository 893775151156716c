#include "io/hdf5_superblock.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "io/atomic_file.hpp"
#include "io/error.hpp"

namespace hadal::io {
namespace {

std::uint64_t little_endian(const std::string& bytes, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

}  // namespace

std::string reason_not_trusted(const std::filesystem::path& path, int fd, std::int64_t at) {
  std::string head(12, '\0');
  read_at(fd, std::as_writable_bytes(std::span(head)), at, path);
  const bool is_marked =
      static_cast<unsigned char>(head[8]) >= 3 && (static_cast<unsigned char>(head[11]) & 1u) != 0;
  if (!is_marked) return {};
  return fmt::format(
      "{} is marked as open for writing: a program writes it, or was stopped while it did; if none "
      "does any more, run: h5clear -s '{}'",
      path.string(), path.string());
}

std::string reason_not_opened(const std::filesystem::path& path, const std::string& library) {
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  std::string head(64, '\0');
  try {
    const UniqueFd fd = open_for_reading(path);
    head.resize(std::min<std::size_t>(head.size(), failure ? 0 : size));
    read_at(fd.get(), std::as_writable_bytes(std::span(head)), 0, path);
  } catch (const Error& error) {
    return error.what();
  }
  if (head.size() < 12 || head.compare(0, 8, "\x89HDF\r\n\x1a\n") != 0) {
    return fmt::format("{} is not an HDF5 file ({} bytes)", path.string(), size);
  }
  const unsigned version = static_cast<unsigned char>(head[8]);
  const std::size_t width = static_cast<unsigned char>(version < 2 ? head[13] : head[9]);
  const std::size_t base_at = version < 2 ? (version == 1 ? 28 : 24) : 12;
  const std::uint64_t end = little_endian(head, base_at + 2 * width, width);
  if (end > size) {
    return fmt::format("{} is cut off: it has {} bytes, its superblock says {}; copy it again",
                       path.string(), size, end);
  }
  if (version > 3) {
    return fmt::format(
        "{} has superblock version {}, newer than this HDF5 library reads; convert it"
        " with: h5repack --high=3",
        path.string(), version);
  }
  return fmt::format("{} cannot be opened: {}", path.string(), library);
}

}  // namespace hadal::io
