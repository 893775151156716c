#pragma once
// Owners of HDF5 identifiers and the one lock around the library. Included by the HDF5 sources
// only.

#include <hdf5.h>

#include <mutex>

#include "io/unique_handle.hpp"

namespace hadal::io {

template <herr_t (*Close)(hid_t)>
struct HidTraits {
  using Handle = hid_t;
  static constexpr hid_t null() noexcept { return -1; }
  static void close(hid_t id) noexcept { Close(id); }
};

using UniqueFile = UniqueHandle<HidTraits<H5Fclose>>;
using UniqueDataset = UniqueHandle<HidTraits<H5Dclose>>;
using UniqueSpace = UniqueHandle<HidTraits<H5Sclose>>;
using UniqueType = UniqueHandle<HidTraits<H5Tclose>>;
using UniqueProperties = UniqueHandle<HidTraits<H5Pclose>>;
using UniqueGroup = UniqueHandle<HidTraits<H5Gclose>>;
using UniqueAttribute = UniqueHandle<HidTraits<H5Aclose>>;

// Held during every call into HDF5. Also silences its error stack on the calling thread.
class Hdf5Lock {
 public:
  Hdf5Lock() : lock_(mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

 private:
  static std::recursive_mutex& mutex() {
    static std::recursive_mutex instance;
    return instance;
  }
  std::lock_guard<std::recursive_mutex> lock_;
};

}  // namespace hadal::io
