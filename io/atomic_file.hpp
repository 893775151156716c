#pragma once
// Files that are there whole or not at all: written beside their place, synced, renamed, and the
// folder synced. Also the owner of a file descriptor and the plain whole-file reader.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "io/unique_handle.hpp"

namespace hadal::io {

struct FdTraits {
  using Handle = int;
  static constexpr int null() noexcept { return -1; }
  static void close(int fd) noexcept;
};
using UniqueFd = UniqueHandle<FdTraits>;

// Replaces `path` by `bytes` so that a reader, or a start after a crash, sees the old or the new
// content. Throws a storage error.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

// Writes all bytes at `offset` (or throws a storage error that names the path).
void write_at(int fd, std::span<const std::byte> bytes, std::int64_t offset,
              const std::filesystem::path& path);

// Reads exactly bytes.size() bytes at `offset`, or throws a storage error.
void read_at(int fd, std::span<std::byte> bytes, std::int64_t offset,
             const std::filesystem::path& path);

// The whole file. Throws a storage error that names the path.
std::string read_file(const std::filesystem::path& path);

// Opens for reading, or throws a storage error.
UniqueFd open_for_reading(const std::filesystem::path& path);

// The same past the system's cache (O_DIRECT); nothing where the file system cannot.
UniqueFd open_directly(const std::filesystem::path& path);

// Makes renames and new names inside `folder` durable.
void sync_folder(const std::filesystem::path& folder);

// fsync on the descriptor, or a storage error that names the path.
void sync_file(int fd, const std::filesystem::path& path);

// What an ordinary user may still write where `path` lies (a quota is not known); -1: unknown.
std::int64_t free_bytes(const std::filesystem::path& path);

// Creates the folder and its parents, or throws a storage error.
void create_folders(const std::filesystem::path& folder);

}  // namespace hadal::io
