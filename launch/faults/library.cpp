// Loaded before everything else into the ranks that `hadal chaos` starts: calls to the system that
// fail, or take their time, and a clock that is wrong. HADAL_FAULTS says which, as words:
//   calls=pread,pwrite,fallocate,fsync,rename   these calls …
//   path=/checkpoints/                          … on files whose path holds this
//   error=28                                    fail with this errno
//   damage=1                                    or give (pread alone) a byte of another value
//   delay=20                                    and take so many milliseconds longer
//   from=3  count=2                             from the third on, two of them; else all
//   clock=86400                                 the time of day is off by so many seconds

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

struct Plan {
  char calls[128] = {};
  char path[256] = {};
  int error = 0;
  bool damage = false;
  long from = 1;
  long count = LONG_MAX / 2;
  long delay = 0;
  long clock = 0;
};

// No function of a library that may not be ready yet.
Plan read_plan() {
  Plan plan;
  const char* text = std::getenv("HADAL_FAULTS");
  while (text != nullptr && *text != 0) {
    while (*text == ' ') ++text;
    const char* end = text;
    while (*end != 0 && *end != ' ') ++end;
    const auto is = [&](const char* name) {
      return std::strncmp(text, name, std::strlen(name)) == 0;
    };
    const auto copy = [&](char* to, std::size_t room, const char* name) {
      const char* from = text + std::strlen(name);
      std::size_t length = 0;
      for (; from < end && length + 1 < room; ++from) to[length++] = *from;
      to[length] = 0;
    };
    const auto number = [&](const char* name) {
      return std::strtol(text + std::strlen(name), nullptr, 10);
    };
    if (is("calls=")) copy(plan.calls, sizeof plan.calls, "calls=");
    if (is("path=")) copy(plan.path, sizeof plan.path, "path=");
    if (is("error=")) plan.error = static_cast<int>(number("error="));
    if (is("damage=")) plan.damage = number("damage=") != 0;
    if (is("from=")) plan.from = number("from=");
    if (is("count=")) plan.count = number("count=");
    if (is("delay=")) plan.delay = number("delay=");
    if (is("clock=")) plan.clock = number("clock=");
    text = end;
  }
  return plan;
}

const Plan& plan() {
  static const Plan made = read_plan();
  return made;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

// Whether this call on this path is one of those meant; it has waited where it is to be slow.
bool meant(const char* call, const char* path) {
  if (std::strstr(plan().calls, call) == nullptr || std::strstr(path, plan().path) == nullptr) {
    return false;
  }
  static std::atomic<long> seen{0};
  const long number = ++seen;
  if (number < plan().from || number >= plan().from + plan().count) return false;
  if (plan().delay > 0) ::usleep(static_cast<useconds_t>(1000 * plan().delay));
  return true;
}

bool meant(const char* call, int fd) {
  if (plan().calls[0] == 0) return false;
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(link, path, sizeof path - 1);
  if (length < 0) return false;
  path[length] = 0;
  return meant(call, path);
}

template <class Where>
bool fails(const char* call, Where where) {
  if (!meant(call, where) || plan().error == 0) return false;
  errno = plan().error;
  return true;
}

template <class Read>
ssize_t read_or_fail(int fd, void* data, const Read& read) {
  const bool is_meant = meant("pread", fd);
  if (is_meant && plan().error != 0) {
    errno = plan().error;
    return -1;
  }
  const ssize_t size = read();
  if (is_meant && plan().damage && size > 0) *static_cast<unsigned char*>(data) ^= 1;
  return size;
}

}  // namespace

extern "C" {

ssize_t pread(int fd, void* data, std::size_t size, off_t at) {
  using Function = ssize_t (*)(int, void*, std::size_t, off_t);
  static const auto real = next<Function>("pread");
  return read_or_fail(fd, data, [&] { return real(fd, data, size, at); });
}

ssize_t pread64(int fd, void* data, std::size_t size, off64_t at) {
  using Function = ssize_t (*)(int, void*, std::size_t, off64_t);
  static const auto real = next<Function>("pread64");
  return read_or_fail(fd, data, [&] { return real(fd, data, size, at); });
}

ssize_t preadv(int fd, const iovec* parts, int count, off_t at) {
  using Function = ssize_t (*)(int, const iovec*, int, off_t);
  static const auto real = next<Function>("preadv");
  return fails("pread", fd) ? -1 : real(fd, parts, count, at);
}

ssize_t preadv64(int fd, const iovec* parts, int count, off64_t at) {
  using Function = ssize_t (*)(int, const iovec*, int, off64_t);
  static const auto real = next<Function>("preadv64");
  return fails("pread", fd) ? -1 : real(fd, parts, count, at);
}

ssize_t preadv2(int fd, const iovec* parts, int count, off_t at, int flags) {
  using Function = ssize_t (*)(int, const iovec*, int, off_t, int);
  static const auto real = next<Function>("preadv2");
  return fails("pread", fd) ? -1 : real(fd, parts, count, at, flags);
}

ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t at, int flags) {
  using Function = ssize_t (*)(int, const iovec*, int, off64_t, int);
  static const auto real = next<Function>("preadv64v2");
  return fails("pread", fd) ? -1 : real(fd, parts, count, at, flags);
}

ssize_t pwrite(int fd, const void* data, std::size_t size, off_t at) {
  using Function = ssize_t (*)(int, const void*, std::size_t, off_t);
  static const auto real = next<Function>("pwrite");
  return fails("pwrite", fd) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void* data, std::size_t size, off64_t at) {
  using Function = ssize_t (*)(int, const void*, std::size_t, off64_t);
  static const auto real = next<Function>("pwrite64");
  return fails("pwrite", fd) ? -1 : real(fd, data, size, at);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  using Function = int (*)(int, int, off_t, off_t);
  static const auto real = next<Function>("fallocate");
  return fails("fallocate", fd) ? -1 : real(fd, mode, at, size);
}

int fsync(int fd) {
  using Function = int (*)(int);
  static const auto real = next<Function>("fsync");
  return fails("fsync", fd) ? -1 : real(fd);
}

int rename(const char* from, const char* to) noexcept {
  using Function = int (*)(const char*, const char*);
  static const auto real = next<Function>("rename");
  return fails("rename", to) ? -1 : real(from, to);
}

time_t time(time_t* out) noexcept {
  using Function = time_t (*)(time_t*);
  static const auto real = next<Function>("time");
  const time_t now = real(nullptr) + plan().clock;
  if (out != nullptr) *out = now;
  return now;
}

int gettimeofday(timeval* out, void* zone) noexcept {
  using Function = int (*)(timeval*, void*);
  static const auto real = next<Function>("gettimeofday");
  const int result = real(out, zone);
  out->tv_sec += plan().clock;
  return result;
}

int clock_gettime(clockid_t clock, timespec* out) noexcept {
  using Function = int (*)(clockid_t, timespec*);
  static const auto real = next<Function>("clock_gettime");
  const int result = real(clock, out);
  if (clock == CLOCK_REALTIME && result == 0) out->tv_sec += plan().clock;
  return result;
}

}  // extern "C"
