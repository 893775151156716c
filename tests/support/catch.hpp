#pragma once
// Catch2 version 2 (Debian 12) or 3, and the helpers that most tests want.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

#include <unistd.h>

#include <filesystem>
#include <string>

#include "io/error.hpp"

namespace hadal::tests {

// A folder of its own for a test, with a space in its path, removed afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hadal test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// The message of the Error of this kind that `body` throws, or what happened instead.
template <class Body>
std::string error_of(io::ErrorKind kind, Body body) {
  try {
    body();
  } catch (const io::Error& error) {
    if (error.kind() == kind) return error.what();
    return "another kind: " + std::string(io::name_of(error.kind())) + ": " + error.what();
  }
  return "no error";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace hadal::tests
