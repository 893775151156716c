#pragma once
// A file that is written from front to back, hashed block by block on the way, and synced when
// closed; and its check. XXH3 (64 bits) finds damage, not malice.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/block_file.hpp"

namespace hadal::io {

inline constexpr std::int64_t kHashBlockBytes = std::int64_t{16} << 20;

struct FileDigest {
  std::string name;  // without folder
  std::int64_t bytes = 0;
  std::vector<std::uint64_t> blocks;  // XXH3 of every block, the last one shorter
  std::int64_t block_bytes = kHashBlockBytes;
};

std::uint64_t hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed = 0);

// Sixteen hexadecimal digits.
std::string hash_text(std::uint64_t hash);

class HashingFile {
 public:
  // Creates or truncates `path`. Throws a storage error.
  explicit HashingFile(const std::filesystem::path& path);

  // See reserve_room().
  void reserve(std::int64_t bytes) { reserve_room(fd_.get(), bytes, path_); }

  void append(std::span<const std::byte> bytes);

  // Syncs and closes. Nothing may be appended afterwards.
  FileDigest close();

 private:
  void flush_block();

  std::filesystem::path path_;
  UniqueFd fd_;
  std::vector<std::byte> block_;
  FileDigest digest_;
};

// The digest of a file that is there.
FileDigest digest_of(const std::filesystem::path& path);

// One hash of a whole file: of its blocks' hashes.
std::string file_checksum(const std::filesystem::path& path);

// Empty where the file under `folder` has the digest's size, else what is wrong.
std::string size_difference(const std::filesystem::path& folder, const FileDigest& digest);

// How a block that has another hash is told.
std::string damage(const FileDigest& digest, std::size_t block);

// Empty where the file under `folder` has the digest's size and hashes, else what differs.
std::string difference(const std::filesystem::path& folder, const FileDigest& digest);

}  // namespace hadal::io
