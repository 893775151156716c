#pragma once
// A file of known size that several processes write at once, each its own blocks, past the system's
// cache where the file system can: what was read of the data stays there, and no processor copies.

#include <cstdint>
#include <filesystem>
#include <span>

#include "io/atomic_file.hpp"

namespace hadal::io {

// Where two writers' bytes may meet: neither NFS nor Lustre takes several clients in one page or
// stripe well.
inline constexpr std::int64_t kFileBlockBytes = std::int64_t{1} << 20;

class BlockFile {
 public:
  // Makes the file, of its full size, and takes the room for it from the file system, where that
  // can tell: a disk that is full, or a quota, shows before anything is written. Throws a storage
  // error.
  static void create(const std::filesystem::path& path, std::int64_t bytes);

  // Opens what create() made. Throws a storage error.
  explicit BlockFile(const std::filesystem::path& path);

  // `offset` is a multiple of kFileBlockBytes; `bytes` start at a page and fill whole blocks,
  // except at the file's end.
  void write(std::span<const std::byte> bytes, std::int64_t offset);

  // Syncs and closes.
  void close();

 private:
  std::filesystem::path path_;
  UniqueFd cached_;
  UniqueFd direct_;  // null where the file system cannot
};

// Takes the room for so many bytes of an open file, where the file system can tell. Throws a
// storage error that says how much is free.
void reserve_room(int fd, std::int64_t bytes, const std::filesystem::path& path);

}  // namespace hadal::io
