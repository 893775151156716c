#pragma once
// What the library's datatypes are in this program's terms. Included by the HDF5 sources only; the
// caller holds the library's lock.

#include <optional>
#include <string>

#include "io/dtype.hpp"
#include "io/hdf5_handle.hpp"

namespace hadal::io {

// Numbers as an element of a dataset holds them.
struct NumberType {
  DType dtype = DType::f32;
  bool big_endian = false;
  Shape inner;  // axes inside an element: of an array type, or [2] of a complex number
  // Where they are one column of a compound: that one's bytes, and their place in it.
  std::int64_t record_bytes = 0;
  std::int64_t record_offset = 0;
};

// The type of a dataset, or of a column of it where one is named; nothing where it is no number.
// h5py stores bool as an enumeration {FALSE = 0, TRUE = 1} over int8, a complex number as a
// compound of two floats.
std::optional<NumberType> number_type(hid_t type, const std::string& column);

// Whether elements are bytes of variable length, in a file whose addresses and lengths have 8
// bytes: a dataset of references (see HeapReference).
bool is_heap_type(hid_t dataset, hid_t type);

// What a type is, for messages: "a string", "a compound".
std::string type_name(hid_t type);

// The type in memory: the file's own numbers with this machine's byte order, back to back.
UniqueType memory_type(hid_t file_type, const std::string& column);

// The type in files that this program writes, little-endian.
hid_t file_type(DType dtype);

}  // namespace hadal::io
