#include "io/raw_reader.hpp"

#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <tuple>
#ifdef HADAL_HAS_URING
#include <liburing.h>
#endif

#include "io/error.hpp"

namespace hadal::io {
namespace {

// Of one read: what a kernel takes in one call.
constexpr std::size_t kMostParts = 64;
constexpr std::int64_t kMostBytes = std::int64_t{16} << 20;

// Neighbours in a file, from there into different places.
struct Run {
  int fd = -1;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  std::vector<iovec> parts;
  const std::string* path = nullptr;
  bool direct = false;
};

Error failed(const Run& run, std::int64_t at, const std::string& why) {
  return {ErrorKind::data, fmt::format("{} cannot be read at byte {}: {}", *run.path, at, why)};
}

std::vector<Run> join(std::vector<RawRead> reads) {
  std::sort(reads.begin(), reads.end(), [](const RawRead& a, const RawRead& b) {
    return std::tie(a.fd, a.offset) < std::tie(b.fd, b.offset);
  });
  std::vector<Run> runs;
  for (const RawRead& read : reads) {
    if (read.to.empty()) continue;
    const auto bytes = static_cast<std::int64_t>(read.to.size());
    const bool joins = !runs.empty() && runs.back().fd == read.fd &&
                       runs.back().offset + runs.back().bytes == read.offset &&
                       runs.back().parts.size() < kMostParts &&
                       runs.back().bytes + bytes <= kMostBytes;
    if (!joins) runs.push_back({read.fd, read.offset, 0, {}, read.path, read.direct});
    runs.back().parts.push_back({read.to.data(), read.to.size()});
    runs.back().bytes += bytes;
  }
  return runs;
}

// `done` bytes have been read.
void read_rest(Run& run, std::int64_t done) {
  const std::int64_t end = run.offset + run.bytes;
  for (;;) {
    while (!run.parts.empty() && done >= static_cast<std::int64_t>(run.parts.front().iov_len)) {
      const auto whole = static_cast<std::int64_t>(run.parts.front().iov_len);
      done -= whole;
      run.offset += whole;
      run.parts.erase(run.parts.begin());
    }
    if (run.parts.empty() || run.offset + done >= end) return;
    iovec& first = run.parts.front();
    first.iov_base = static_cast<std::byte*>(first.iov_base) + done;
    first.iov_len -= static_cast<std::size_t>(done);
    run.offset += done;
    done = ::preadv(run.fd, run.parts.data(), static_cast<int>(run.parts.size()), run.offset);
    if (done < 0 && errno == EINTR)
      done = 0;
    else if (done < 0)
      throw failed(run, run.offset, std::strerror(errno));
    else if (done == 0)
      throw failed(run, run.offset, "the file ends there; it has been cut off");
  }
}

#ifdef HADAL_HAS_URING
constexpr unsigned kDepth = 64;

class Ring {
 public:
  Ring() { error_ = -io_uring_queue_init(kDepth, &ring_, 0); }
  ~Ring() {
    if (error_ == 0) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  int error() const { return error_; }

  // All in flight are waited for, also where one has failed: their memory is the caller's.
  void read(std::vector<Run>& runs) {
    std::size_t next = 0, in_flight = 0, broken = runs.size();
    int error = 0;
    std::vector<std::int64_t> done(runs.size(), 0);
    while (next < runs.size() || in_flight > 0) {
      for (; next < runs.size() && in_flight < kDepth; ++next, ++in_flight) {
        Run& run = runs[next];
        io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
        io_uring_prep_readv(entry, run.fd, run.parts.data(),
                            static_cast<unsigned>(run.parts.size()),
                            static_cast<std::uint64_t>(run.offset));
        io_uring_sqe_set_data64(entry, next);
      }
      const int submitted = io_uring_submit_and_wait(&ring_, 1);
      if (submitted < 0 && submitted != -EINTR && submitted != -EAGAIN && submitted != -EBUSY) {
        // The kernel has taken none of them.
        throw Error(ErrorKind::data, fmt::format("io_uring: {}", std::strerror(-submitted)));
      }
      io_uring_cqe* entry = nullptr;
      while (io_uring_peek_cqe(&ring_, &entry) == 0) {
        const auto number = static_cast<std::size_t>(io_uring_cqe_get_data64(entry));
        const int result = entry->res;
        io_uring_cqe_seen(&ring_, entry);
        --in_flight;
        if (result >= 0) {
          done[number] = result;
        } else if (result != -EINTR && result != -EAGAIN && number < broken) {
          broken = number;
          error = -result;
        }
      }
    }
    if (broken < runs.size()) {
      throw failed(runs[broken], runs[broken].offset, std::strerror(error));
    }
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (done[i] < runs[i].bytes) read_rest(runs[i], done[i]);
    }
  }

 private:
  io_uring ring_ = {};
  int error_ = 0;
};

Ring& ring_of_thread() {
  thread_local Ring ring;
  return ring;
}
#endif

// Reads it if that needs no waiting. Where a file system cannot tell, it waits.
bool is_in_cache(const Run& run) {
  return ::preadv2(run.fd, run.parts.data(), static_cast<int>(run.parts.size()), run.offset,
                   RWF_NOWAIT) == run.bytes;
}

// What O_DIRECT asks of places in a file and in memory, on every file system that has it.
constexpr std::int64_t kPage = 4096;

std::int64_t whole_pages(std::int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void wait_for(std::vector<Run>& runs) {
#ifdef HADAL_HAS_URING
  if (runs.size() > 1) {
    if (Ring& ring = ring_of_thread(); ring.error() == 0) {
      ring.read(runs);
      return;
    }
  }
#endif
  for (Run& run : runs) read_rest(run, 0);
}

// The pages that hold the runs, into memory of their own, from there to where they belong. The last
// page of a file may be short.
void wait_for_pages(const std::vector<Run>& runs) {
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  thread_local std::unique_ptr<std::byte, Free> memory;
  thread_local std::int64_t room = 0;
  std::vector<Run> pages;
  std::int64_t bytes = 0;
  for (const Run& run : runs) {
    Run& page = pages.emplace_back(run);
    page.offset = run.offset / kPage * kPage;
    page.bytes = run.offset + run.bytes - page.offset;
    bytes += whole_pages(page.bytes);
  }
  if (room < bytes) {
    memory.reset(
        static_cast<std::byte*>(std::aligned_alloc(kPage, static_cast<std::size_t>(bytes))));
    if (memory == nullptr) throw std::bad_alloc();
    room = bytes;
  }
  std::byte* next = memory.get();
  for (Run& page : pages) {
    const std::int64_t whole = whole_pages(page.bytes);
    page.parts = {{next, static_cast<std::size_t>(whole)}};
    next += whole;
  }
  wait_for(pages);
  next = memory.get();
  for (const Run& run : runs) {
    const std::int64_t before = run.offset % kPage;
    const std::byte* from = next + before;
    for (const iovec& part : run.parts) {
      std::memcpy(part.iov_base, from, part.iov_len);
      from += part.iov_len;
    }
    next += whole_pages(before + run.bytes);
  }
}

}  // namespace

std::size_t read_all(std::vector<RawRead> reads) {
  std::vector<Run> runs = join(std::move(reads));
  const auto direct =
      std::stable_partition(runs.begin(), runs.end(), [](const Run& run) { return !run.direct; });
  const std::vector<Run> past_cache(std::make_move_iterator(direct),
                                    std::make_move_iterator(runs.end()));
  runs.erase(direct, runs.end());
  std::erase_if(runs, is_in_cache);
  wait_for(runs);
  if (!past_cache.empty()) wait_for_pages(past_cache);
  return runs.size() + past_cache.size();
}

std::string describe_raw_reader() {
#ifdef HADAL_HAS_URING
  if (const int error = ring_of_thread().error(); error != 0) {
    return fmt::format("preadv (io_uring: {})", std::strerror(error));
  }
  return "io_uring";
#else
  return "preadv (built without liburing)";
#endif
}

}  // namespace hadal::io
