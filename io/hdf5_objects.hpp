#pragma once
// What a file holds, by its paths. Included by the HDF5 sources only; the caller holds the
// library's lock.

#include <string>
#include <vector>

#include "io/hdf5_handle.hpp"

namespace hadal::io {

struct Objects {
  std::vector<std::string> datasets;  // sorted
  std::vector<std::string> groups;
};

Objects list_objects(hid_t file);

// The objects that match, `*` standing for (a part of) one name, by comes_before().
std::vector<std::string> matching_objects(const Objects& objects, const std::string& pattern);

// By their names, numbers inside them by their value: "run 2" before "run 10".
bool comes_before(const std::string& a, const std::string& b);

}  // namespace hadal::io
