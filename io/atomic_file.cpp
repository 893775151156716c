#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/error.hpp"

namespace hadal::io {

void FdTraits::close(int fd) noexcept { ::close(fd); }

void write_at(int fd, std::span<const std::byte> bytes, std::int64_t offset,
              const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw system_error(ErrorKind::storage, "cannot write", path.string(), errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
}

void read_at(int fd, std::span<std::byte> bytes, std::int64_t offset,
             const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw system_error(ErrorKind::storage, "cannot read", path.string(), errno);
    if (got == 0) {
      throw Error(ErrorKind::storage, fmt::format("{} ends at byte {}, {} bytes early",
                                                  path.string(), offset, bytes.size()));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

UniqueFd open_for_reading(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw system_error(ErrorKind::storage, "cannot open", path.string(), errno);
  return fd;
}

std::string read_file(const std::filesystem::path& path) {
  const UniqueFd fd = open_for_reading(path);
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw system_error(ErrorKind::storage, "cannot read", path.string(), errno);
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
  }
}

void sync_file(int fd, const std::filesystem::path& path) {
  if (::fsync(fd) != 0) throw system_error(ErrorKind::storage, "cannot sync", path.string(), errno);
}

UniqueFd open_directly(const std::filesystem::path& path) {
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
}

void sync_folder(const std::filesystem::path& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw system_error(ErrorKind::storage, "cannot open", folder.string(), errno);
  // Some file systems do not sync folders and say so; their renames are durable by themselves.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    throw system_error(ErrorKind::storage, "cannot sync", folder.string(), errno);
  }
}

std::int64_t free_bytes(const std::filesystem::path& path) {
  std::error_code failure;
  const std::filesystem::space_info space = std::filesystem::space(path, failure);
  return failure ? -1 : static_cast<std::int64_t>(space.available);
}

void create_folders(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) {
    throw Error(ErrorKind::storage,
                fmt::format("cannot create the folder {}: {}", folder.string(), failure.message()));
  }
}

void write_file_atomically(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::path beside = path;
  beside += fmt::format(".tmp-{}", ::getpid());
  try {
    UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd) throw system_error(ErrorKind::storage, "cannot create", beside.string(), errno);
    write_at(fd.get(), std::as_bytes(std::span(bytes.data(), bytes.size())), 0, beside);
    sync_file(fd.get(), beside);
    if (::close(fd.release()) != 0) {
      throw system_error(ErrorKind::storage, "cannot close", beside.string(), errno);
    }
    if (::rename(beside.c_str(), path.c_str()) != 0) {
      throw system_error(ErrorKind::storage, "cannot rename onto", path.string(), errno);
    }
  } catch (...) {
    ::unlink(beside.c_str());
    throw;
  }
  sync_folder(path.has_parent_path() ? path.parent_path() : std::filesystem::path("."));
}

}  // namespace hadal::io
