#pragma once
// What files were found to hold, kept for the next start: a file that has not changed since need
// not be scanned again.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/data_scan.hpp"

namespace hadal::io {

class ScanCache {
 public:
  ScanCache() = default;
  // What bytes() gave. Damaged bytes, and those of another version, hold nothing.
  explicit ScanCache(std::string_view bytes);

  std::string bytes() const;

  // What was found for these queries in a file that was in this state; null: is not known.
  const FileScans* find(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries,
                        const FileState& state) const;

  // Keeps what all of it lies in this very file, and is no fault.
  void put(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries,
           const FileState& state, FileScans scans);

 private:
  struct Entry {
    FileState state;
    FileScans scans;
  };
  std::map<std::string, Entry> entries_;  // by file and queries
};

}  // namespace hadal::io
