#pragma once
// Files that stay open between reads, a bounded number of them: descriptors for reads past the
// HDF5 library, and the library's own handles for what only it can read. Shared by all reading
// threads.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "io/atomic_file.hpp"
#include "io/raw_reader.hpp"

namespace hadal::io {

template <class File>
class OpenFiles {
 public:
  // `opens` makes the file that is read at its second argument and called by its first.
  using Opens = std::function<std::shared_ptr<const File>(const std::string&, const std::string&)>;
  OpenFiles(std::size_t most, Opens opens) : most_(most), opens_(std::move(opens)) {}

  // The file stays open as long as someone holds it. It is read at `place`, and called `path`.
  std::shared_ptr<const File> get(const std::string& path, const std::string& place) {
    const std::lock_guard lock(mutex_);
    if (const auto hit = by_path_.find(path); hit != by_path_.end()) {
      files_.splice(files_.begin(), files_, hit->second);
      return hit->second->second;
    }
    auto file = opens_(path, place);
    files_.emplace_front(path, file);
    by_path_.emplace(path, files_.begin());
    if (files_.size() > most_) {
      by_path_.erase(files_.back().first);
      files_.pop_back();
    }
    return file;
  }

 private:
  using Files = std::list<std::pair<std::string, std::shared_ptr<const File>>>;
  std::size_t most_;
  Opens opens_;
  std::mutex mutex_;
  Files files_;  // last used first
  std::unordered_map<std::string, typename Files::iterator> by_path_;
};

// Opened with open(2), without a lock.
class RawFile {
 public:
  explicit RawFile(const std::string& path) : RawFile(path, path, false) {}
  // Read at `place`, called `path`; `direct`: past the system's cache too, where it can be.
  RawFile(const std::string& path, const std::string& place, bool direct)
      : path_(path), fd_(open_for_reading(place)) {
    if (direct) direct_ = open_directly(place);
  }
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  // Of RawRead: whole rows and chunks. What is smaller is read through the cache.
  RawRead read(std::int64_t offset, std::span<std::byte> to) const {
    const bool direct = static_cast<bool>(direct_);
    return {direct ? direct_.get() : fd_.get(), offset, to, &path_, direct};
  }

 private:
  std::string path_;
  UniqueFd fd_;
  UniqueFd direct_;
};

}  // namespace hadal::io
