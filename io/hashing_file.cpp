#include "io/hashing_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/error.hpp"

namespace hadal::io {

std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

std::string hash_text(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

HashingFile::HashingFile(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (!fd_) throw system_error(ErrorKind::storage, "cannot create", path.string(), errno);
  digest_.name = path.filename().string();
}

void HashingFile::reserve(std::int64_t bytes) {
  if (bytes == 0 || ::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return;
  // fallocate(2), not posix_fallocate(3): where the file system has no such call that one writes
  // into every block.
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) return;
  const int reason = errno;
  throw Error(
      ErrorKind::storage,
      fmt::format("cannot write {}: it needs {:.1f} MiB, {:.1f} MiB are free ({})", path_.string(),
                  static_cast<double>(bytes) / (1 << 20),
                  static_cast<double>(free_bytes(path_)) / (1 << 20), std::strerror(reason)));
}

void HashingFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t room = static_cast<std::size_t>(kHashBlockBytes) - block_.size();
    const std::size_t taken = std::min(room, bytes.size());
    block_.insert(block_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    bytes = bytes.subspan(taken);
    if (block_.size() == static_cast<std::size_t>(kHashBlockBytes)) flush_block();
  }
}

void HashingFile::flush_block() {
  write_at(fd_.get(), block_, digest_.bytes, path_);
  digest_.bytes += static_cast<std::int64_t>(block_.size());
  digest_.blocks.push_back(hash_bytes(block_));
  block_.clear();
}

FileDigest HashingFile::close() {
  if (!block_.empty()) flush_block();
  sync_file(fd_.get(), path_);
  if (::close(fd_.release()) != 0) {
    throw system_error(ErrorKind::storage, "cannot close", path_.string(), errno);
  }
  return std::move(digest_);
}

namespace {

std::int64_t block_bytes(std::size_t block, std::int64_t file_bytes) {
  return std::min(kHashBlockBytes, file_bytes - static_cast<std::int64_t>(block) * kHashBlockBytes);
}

std::uint64_t block_hash(const UniqueFd& fd, std::size_t block, std::int64_t file_bytes,
                         const std::filesystem::path& path) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(block_bytes(block, file_bytes)));
  read_at(fd.get(), bytes, static_cast<std::int64_t>(block) * kHashBlockBytes, path);
  return hash_bytes(bytes);
}

}  // namespace

FileDigest digest_of(const std::filesystem::path& path) {
  FileDigest digest{.name = path.filename().string(), .bytes = 0, .blocks = {}};
  const UniqueFd fd = open_for_reading(path);
  digest.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  for (std::size_t i = 0; static_cast<std::int64_t>(i) * kHashBlockBytes < digest.bytes; ++i) {
    digest.blocks.push_back(block_hash(fd, i, digest.bytes, path));
  }
  return digest;
}

std::string file_checksum(const std::filesystem::path& path) {
  const std::vector<std::uint64_t> blocks = digest_of(path).blocks;
  return hash_text(hash_bytes(std::as_bytes(std::span(blocks))));
}

std::string difference(const std::filesystem::path& folder, const FileDigest& digest) {
  const std::filesystem::path path = folder / digest.name;
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  if (failure) return fmt::format("{} cannot be read: {}", digest.name, failure.message());
  if (static_cast<std::int64_t>(size) != digest.bytes) {
    return fmt::format("{} has {} bytes, {} were written", digest.name, size, digest.bytes);
  }
  const UniqueFd fd = open_for_reading(path);
  for (std::size_t i = 0; i < digest.blocks.size(); ++i) {
    if (block_hash(fd, i, digest.bytes, path) == digest.blocks[i]) continue;
    const std::int64_t offset = static_cast<std::int64_t>(i) * kHashBlockBytes;
    return fmt::format("{} is damaged between bytes {} and {}", digest.name, offset,
                       offset + block_bytes(i, digest.bytes));
  }
  return {};
}

}  // namespace hadal::io
