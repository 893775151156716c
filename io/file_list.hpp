#pragma once
// From paths and patterns to the list of files, in one order on every host: bytewise by path.

#include <filesystem>
#include <string>
#include <vector>

namespace hadal::io {

struct FileList {
  std::vector<std::filesystem::path> files;
  std::vector<std::string> notes;   // what was passed over (temporary files, folders), for the log
  std::vector<std::string> faults;  // patterns that match nothing, paths that do not exist
};

// Each entry is an exact path where such a file exists, else a pattern with * ? [ ]. The same file
// twice is a fault. Looks at the file system: call it on one rank only and share the result, hosts
// may list folders differently.
FileList list_files(const std::vector<std::string>& entries);

}  // namespace hadal::io
