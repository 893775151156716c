#include "io/hashing_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>

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

std::uint64_t block_hash(const UniqueFd& fd, std::int64_t offset, std::int64_t bytes,
                         const std::filesystem::path& path) {
  std::vector<std::byte> block(static_cast<std::size_t>(bytes));
  read_at(fd.get(), block, offset, path);
  return hash_bytes(block);
}

}  // namespace

FileDigest digest_of(const std::filesystem::path& path) {
  FileDigest digest{.name = path.filename().string(), .bytes = 0, .blocks = {}};
  const UniqueFd fd = open_for_reading(path);
  digest.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  for (std::int64_t offset = 0; offset < digest.bytes; offset += kHashBlockBytes) {
    digest.blocks.push_back(
        block_hash(fd, offset, std::min(kHashBlockBytes, digest.bytes - offset), path));
  }
  return digest;
}

std::string file_checksum(const std::filesystem::path& path) {
  const std::vector<std::uint64_t> blocks = digest_of(path).blocks;
  return hash_text(hash_bytes(std::as_bytes(std::span(blocks))));
}

std::string size_difference(const std::filesystem::path& folder, const FileDigest& digest) {
  std::error_code failure;
  const auto size = std::filesystem::file_size(folder / digest.name, failure);
  if (failure) return fmt::format("{} cannot be read: {}", digest.name, failure.message());
  if (static_cast<std::int64_t>(size) == digest.bytes) return {};
  return fmt::format("{} has {} bytes, {} were written", digest.name, size, digest.bytes);
}

std::string damage(const FileDigest& digest, std::size_t block) {
  const std::int64_t begin = static_cast<std::int64_t>(block) * digest.block_bytes;
  return fmt::format("{} is damaged between bytes {} and {}", digest.name, begin,
                     std::min(begin + digest.block_bytes, digest.bytes));
}

std::string difference(const std::filesystem::path& folder, const FileDigest& digest) {
  if (std::string size = size_difference(folder, digest); !size.empty()) return size;
  const std::filesystem::path path = folder / digest.name;
  const UniqueFd fd = open_for_reading(path);
  for (std::size_t i = 0; i < digest.blocks.size(); ++i) {
    const std::int64_t begin = static_cast<std::int64_t>(i) * digest.block_bytes;
    const std::int64_t bytes = std::min(digest.block_bytes, digest.bytes - begin);
    if (block_hash(fd, begin, bytes, path) != digest.blocks[i]) return damage(digest, i);
  }
  return {};
}

}  // namespace hadal::io
