#pragma once
// What the system says of itself in files of one line, under /proc and /sys.

#include <filesystem>
#include <fstream>
#include <string>

namespace hadal::launch {

// "" where there is no such file.
inline std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace hadal::launch
