#pragma once
// The HDF5 library in use here may crash on a damaged file, or never come back, and so may that of
// Blosc 2. While a guard lives, either ends this process with a data error that names the file, and
// nothing else.

namespace hadal::io {

class Hdf5Guard {
 public:
  // `file` must outlive the guard. On the calling thread; one inside another belongs to the first.
  explicit Hdf5Guard(const char* file);
  ~Hdf5Guard();
  Hdf5Guard(const Hdf5Guard&) = delete;
  Hdf5Guard& operator=(const Hdf5Guard&) = delete;

 private:
  bool outermost_;
};

// The library has come so far as to read: it has not hung up to here.
void note_hdf5_progress();

}  // namespace hadal::io
