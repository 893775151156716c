#include "io/hdf5_driver.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "io/atomic_file.hpp"
#include "io/hdf5_guard.hpp"

namespace hadal::io {
namespace {

RawDataProbe* probe = nullptr;
const char* opened_name = nullptr;
int opened_fd = -1;

struct OpenFile : H5FD_t {
  UniqueFd fd;
  haddr_t allocated = 0;
  haddr_t size = 0;
  dev_t device = 0;
  ino_t inode = 0;
};

OpenFile* mine(H5FD_t* file) { return static_cast<OpenFile*>(file); }
const OpenFile* mine(const H5FD_t* file) { return static_cast<const OpenFile*>(file); }

H5FD_t* open_file(const char* name, unsigned flags, hid_t, haddr_t) {
  if ((flags & H5F_ACC_RDWR) != 0) return nullptr;
  auto file = std::make_unique<OpenFile>(OpenFile{});
  const bool is_open = opened_name != nullptr && std::strcmp(name, opened_name) == 0;
  file->fd = UniqueFd(is_open ? ::fcntl(opened_fd, F_DUPFD_CLOEXEC, 0)
                              : ::open(name, O_RDONLY | O_CLOEXEC));
  struct stat status = {};
  if (!file->fd || ::fstat(file->fd.get(), &status) != 0) return nullptr;
  file->size = static_cast<haddr_t>(status.st_size);
  file->device = status.st_dev;
  file->inode = status.st_ino;
  return file.release();
}

herr_t close_file(H5FD_t* file) {
  delete mine(file);
  return 0;
}

int compare_files(const H5FD_t* a, const H5FD_t* b) {
  const OpenFile *left = mine(a), *right = mine(b);
  if (left->device != right->device) return left->device < right->device ? -1 : 1;
  if (left->inode != right->inode) return left->inode < right->inode ? -1 : 1;
  return 0;
}

herr_t features(const H5FD_t*, unsigned long* flags) {
  if (flags != nullptr) {
    *flags =
        H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  }
  return 0;
}

haddr_t allocated(const H5FD_t* file, H5FD_mem_t) { return mine(file)->allocated; }

herr_t set_allocated(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  mine(file)->allocated = address;
  return 0;
}

haddr_t size_of(const H5FD_t* file, H5FD_mem_t) { return mine(file)->size; }

herr_t read_file(H5FD_t* file, H5FD_mem_t type, hid_t, haddr_t address, size_t size, void* buffer) {
  const OpenFile* from = mine(file);
  if (probe != nullptr && type == H5FD_MEM_DRAW) {
    probe->note(static_cast<std::int64_t>(address));
    // Not each time: the timer's call would cost as much as the look-up.
    thread_local unsigned looked_up = 0;
    if (++looked_up % 1024 == 0) note_hdf5_progress();
    return 0;
  }
  note_hdf5_progress();
  auto* to = static_cast<char*>(buffer);
  while (size > 0) {
    const ssize_t count = ::pread(from->fd.get(), to, size, static_cast<off_t>(address));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    if (count == 0) {
      // Allocated, but behind the file's end: the format says zeros.
      std::memset(to, 0, size);
      return 0;
    }
    to += count;
    address += static_cast<haddr_t>(count);
    size -= static_cast<size_t>(count);
  }
  return 0;
}

herr_t refuse_write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, size_t, const void*) { return -1; }

hid_t register_driver() {
  static H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 2)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(H5_VFD_RESERVED + 77);
#endif
  driver.name = "hadal";
  driver.maxaddr = HADDR_MAX;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.open = open_file;
  driver.close = close_file;
  driver.cmp = compare_files;
  driver.query = features;
  driver.get_eoa = allocated;
  driver.set_eoa = set_allocated;
  driver.get_eof = size_of;
  driver.read = read_file;
  driver.write = refuse_write;
  const H5FD_mem_t map[] = H5FD_FLMAP_DICHOTOMY;
  std::copy(std::begin(map), std::end(map), driver.fl_map);
  return H5FDregister(&driver);
}

}  // namespace

UniqueProperties access_properties() {
  static const hid_t driver = register_driver();
  UniqueProperties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_driver(access.get(), driver, nullptr);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  return access;
}

OpenedFile::OpenedFile(const char* name, int fd) {
  opened_name = name;
  opened_fd = fd;
}

OpenedFile::~OpenedFile() { opened_name = nullptr; }

RawDataProbe::RawDataProbe() { probe = this; }

RawDataProbe::~RawDataProbe() { probe = nullptr; }

}  // namespace hadal::io
