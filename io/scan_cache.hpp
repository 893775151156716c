#pragma once
// What files were found to hold, kept for the next start: a file that has not changed since need
// not be scanned again.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/data_scan.hpp"

namespace hadal::io {

// What tells whether a file has changed.
struct FileState {
  std::int64_t bytes = 0;
  std::int64_t changed = 0;  // nanoseconds, by the file system's clock
  std::uint64_t content_hash = 0;

  bool operator==(const FileState&) const = default;
};

// Nothing where the file cannot be looked at.
std::optional<FileState> state_of(const std::filesystem::path& file);

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
