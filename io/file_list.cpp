#include "io/file_list.hpp"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <set>

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

bool is_temporary(const std::string& name) {
  return name.starts_with('.') || name.ends_with(".tmp") || name.ends_with(".partial") ||
         name.ends_with('~') || name.find(".tmp-") != std::string::npos;
}

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
    for (std::size_t i = 0; i < found.gl_pathc; ++i) paths.emplace_back(found.gl_pathv[i]);
  }
  ::globfree(&found);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

FileList list_files(const std::vector<std::string>& entries) {
  FileList list;
  std::set<std::string> seen;
  for (const std::string& entry : entries) {
    std::error_code ignored;
    const bool exact = fs::exists(entry, ignored) && !fs::is_directory(entry, ignored);
    const bool pattern = entry.find_first_of("*?[") != std::string::npos;
    std::vector<std::string> paths;
    if (exact) {
      paths = {entry};
    } else if (pattern) {
      paths = matches(entry);
    } else if (fs::is_directory(entry, ignored)) {
      list.faults.push_back(
          fmt::format("{} is a folder; name the files in it: {}/*.h5", entry, entry));
      continue;
    } else {
      list.faults.push_back(fmt::format("{} does not exist", entry));
      continue;
    }
    std::size_t taken = 0;
    for (const std::string& path : paths) {
      const std::string name = fs::path(path).filename().string();
      if (!exact && (is_temporary(name) || fs::is_directory(path, ignored))) {
        list.notes.push_back(fmt::format("not read: {} ({})", path,
                                         is_temporary(name) ? "a temporary file" : "a folder"));
        continue;
      }
      ++taken;
      if (!seen.insert(path).second) {
        list.faults.push_back(fmt::format("{} is listed twice", path));
        continue;
      }
      list.files.emplace_back(path);
    }
    if (taken == 0) {
      list.faults.push_back(fmt::format("no file matches \"{}\" in {}",
                                        fs::path(entry).filename().string(),
                                        fs::path(entry).parent_path().string()));
    }
  }
  return list;
}

}  // namespace hadal::io
