#pragma once
// Many reads from files at once. What the system has in its cache is copied at once; the rest is
// handed to the kernel together where it takes them so (io_uring), else read one after the other.
// Neighbours in a file become one read.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hadal::io {

struct RawRead {
  int fd = -1;
  std::int64_t offset = 0;
  std::span<std::byte> to;
  const std::string* path = nullptr;  // for messages; must live until read_all() returns
  bool direct = false;  // the file was opened with O_DIRECT: whole pages are read, and copied
};

// Fills every `to` whole, in no special order; returns how many reads were waited for. Any thread.
// Throws a data error that names the file and the place where a read fails or a file has ended.
std::size_t read_all(std::vector<RawRead> reads);

// How this process reads: "io_uring", or "preadv" with the reason.
std::string describe_raw_reader();

}  // namespace hadal::io
