#include "io/block_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/error.hpp"

namespace hadal::io {
namespace {

// Of memory, offset and length of what goes past the cache; no device has larger sectors.
constexpr std::size_t kDirectBytes = 4096;

}  // namespace

void reserve_room(int fd, std::int64_t bytes, const std::filesystem::path& path) {
  if (bytes == 0 || ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, bytes) == 0) return;
  // fallocate(2), not posix_fallocate(3): where the file system has no such call that one writes
  // into every block.
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) return;
  const int reason = errno;
  throw Error(
      ErrorKind::storage,
      fmt::format("cannot write {}: it needs {:.1f} MiB, {:.1f} MiB are free ({})", path.string(),
                  static_cast<double>(bytes) / (1 << 20),
                  static_cast<double>(free_bytes(path)) / (1 << 20), std::strerror(reason)));
}

void BlockFile::create(const std::filesystem::path& path, std::int64_t bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd) throw system_error(ErrorKind::storage, "cannot create", path.string(), errno);
  reserve_room(fd.get(), bytes, path);
  if (::ftruncate(fd.get(), bytes) != 0) {
    throw system_error(ErrorKind::storage, "cannot write", path.string(), errno);
  }
  if (::close(fd.release()) != 0) {
    throw system_error(ErrorKind::storage, "cannot close", path.string(), errno);
  }
}

BlockFile::BlockFile(const std::filesystem::path& path)
    : path_(path),
      cached_(::open(path.c_str(), O_WRONLY | O_CLOEXEC)),
      direct_(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_DIRECT)) {
  if (!cached_) throw system_error(ErrorKind::storage, "cannot open", path.string(), errno);
}

void BlockFile::write(std::span<const std::byte> bytes, std::int64_t offset) {
  if (direct_) {
    std::span<const std::byte> whole = bytes.first(bytes.size() / kDirectBytes * kDirectBytes);
    while (!whole.empty()) {
      const ssize_t written = ::pwrite(direct_.get(), whole.data(), whole.size(), offset);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 || written % static_cast<ssize_t>(kDirectBytes) != 0) {
        // It takes such calls, but not this one; what is wrong beyond that shows below.
        direct_ = UniqueFd();
        break;
      }
      whole = whole.subspan(static_cast<std::size_t>(written));
      bytes = bytes.subspan(static_cast<std::size_t>(written));
      offset += written;
    }
  }
  write_at(cached_.get(), bytes, offset, path_);
}

void BlockFile::close() {
  direct_ = UniqueFd();
  sync_file(cached_.get(), path_);
  if (::close(cached_.release()) != 0) {
    throw system_error(ErrorKind::storage, "cannot close", path_.string(), errno);
  }
}

}  // namespace hadal::io
