#pragma once
// The file driver through which the HDF5 library reads: files are never locked (shared file systems
// without locks refuse it) and never written, and the library can be asked where raw data lie
// instead of reading them. Included by the HDF5 sources only; callers hold the library's lock.

#include <cstdint>

#include "io/hdf5_handle.hpp"

namespace hadal::io {

// Access properties for H5Fopen.
UniqueProperties access_properties();

// While it lives, the library opens the file of this name by a copy of this descriptor: an open
// costs a server of metadata more than a read.
class OpenedFile {
 public:
  OpenedFile(const char* name, int fd);
  ~OpenedFile();
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;
};

// While it lives, raw data that the library wants to read from any file are not read: their place
// is noted. The library's own functions for the addresses of chunks take a time linear in the
// number of chunks, each, in versions before 1.10.9; a read finds its chunk by the index of the
// file.
class RawDataProbe {
 public:
  RawDataProbe();
  ~RawDataProbe();
  RawDataProbe(const RawDataProbe&) = delete;
  RawDataProbe& operator=(const RawDataProbe&) = delete;

  // Of the last read: the bytes from the file's start, or -1 where nothing was to be read.
  std::int64_t offset() const { return offset_; }
  void reset() { offset_ = -1; }

  // For the driver.
  void note(std::int64_t offset) { offset_ = offset; }

 private:
  std::int64_t offset_ = -1;
};

}  // namespace hadal::io
