#pragma once
// What the library's datatypes are in this program's terms. Included by the HDF5 sources only; the
// caller holds the library's lock.

#include <optional>
#include <string>

#include "io/dtype.hpp"
#include "io/hdf5_handle.hpp"

namespace hadal::io {

// The number type of a dataset, or nothing where it is no plain number. h5py stores bool as an
// enumeration {FALSE = 0, TRUE = 1} over int8.
std::optional<DType> number_type(hid_t type);

// What a type is, for messages: "a string", "a compound".
std::string type_name(hid_t type);

// The type in memory: the file's own number with this machine's byte order.
UniqueType memory_type(hid_t file_type);

// The type in files that this program writes, little-endian; a bug error for one it does not write.
hid_t file_type(DType dtype);

}  // namespace hadal::io
