#pragma once
// Files that stay open between reads, a bounded number of them: descriptors for reads past the
// HDF5 library, and the library's own handles for what only it can read. Shared by all reading
// threads.

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <unordered_map>

#include "io/atomic_file.hpp"
#include "io/hdf5_file.hpp"

namespace hadal::io {

template <class File>
class OpenFiles {
 public:
  explicit OpenFiles(std::size_t most) : most_(most) {}

  // The file stays open as long as someone holds it. It is read at `place`, and called `path`.
  std::shared_ptr<const File> get(const std::string& path, const std::string& place) {
    const std::lock_guard lock(mutex_);
    if (const auto hit = by_path_.find(path); hit != by_path_.end()) {
      files_.splice(files_.begin(), files_, hit->second);
      return hit->second->second;
    }
    auto file = open(path, place);
    files_.emplace_front(path, file);
    by_path_.emplace(path, files_.begin());
    if (files_.size() > most_) {
      by_path_.erase(files_.back().first);
      files_.pop_back();
    }
    return file;
  }

 private:
  static std::shared_ptr<const File> open(const std::string& path, const std::string& place) {
    if constexpr (std::is_constructible_v<File, std::string, std::string>) {
      return std::make_shared<const File>(path, place);
    } else {
      return std::make_shared<const File>(place);
    }
  }

  using Files = std::list<std::pair<std::string, std::shared_ptr<const File>>>;
  std::size_t most_;
  std::mutex mutex_;
  Files files_;  // last used first
  std::unordered_map<std::string, typename Files::iterator> by_path_;
};

// Opened with open(2), without a lock.
class RawFile {
 public:
  explicit RawFile(const std::string& path) : RawFile(path, path) {}
  // Read at `place`, called `path`.
  RawFile(const std::string& path, const std::string& place)
      : path_(path), fd_(open_for_reading(place)) {}
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace hadal::io
