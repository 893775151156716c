#include <fmt/format.h>

#include <algorithm>

#include "io/error.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

std::string ending_of(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  for (char& letter : ending) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return ending;
}

bool is_hidden(const std::filesystem::path& path) {
  return path.filename().string().starts_with('.');
}

}  // namespace

ClassFolder list_classes(const std::filesystem::path& folder,
                         const std::vector<std::string>& endings) {
  namespace fs = std::filesystem;
  std::vector<fs::path> classes;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && !is_hidden(entry.path())) classes.push_back(entry.path());
  }
  // The order of a folder's entries is the file system's own.
  std::sort(classes.begin(), classes.end());
  ClassFolder found;
  for (const fs::path& path : classes) {
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path)) {
      if (!entry.is_regular_file() || is_hidden(entry.path())) continue;
      if (std::find(endings.begin(), endings.end(), ending_of(entry.path())) == endings.end())
        continue;
      files.push_back(entry.path());
    }
    if (files.empty()) continue;
    std::sort(files.begin(), files.end());
    for (fs::path& file : files) {
      found.files.push_back({std::move(file), std::ssize(found.classes)});
    }
    found.classes.push_back(path.filename().string());
  }
  if (found.files.empty()) {
    throw Error(ErrorKind::data,
                fmt::format("{} has no subfolders with {} files; a class is a subfolder",
                            folder.string(), fmt::join(endings, ", ")));
  }
  return found;
}

}  // namespace hadal::io
