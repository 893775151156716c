#pragma once
// How a dataset lies in its file, checked for everything that would read as a plausible wrong
// number: chunks or arrays never written, virtual sources that are gone, filters that are not
// installed. Included by the HDF5 sources only; the caller holds the library's lock.

#include <filesystem>
#include <string>

#include "io/hdf5_file.hpp"
#include "io/hdf5_handle.hpp"

namespace hadal::io {

// Fills in chunk, filters and extents of a dataset whose path, type and shape are known. Throws a
// data error that says what is missing.
void describe_layout(const std::filesystem::path& file, hid_t dataset, StoredDataset& stored);

}  // namespace hadal::io
