#include <map>
#include <regex>
#include <set>

#include "io/atomic_file.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> sources(const std::string& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(HADAL_SOURCE_DIR) / folder)) {
    const std::string extension = entry.path().extension();
    if (extension == ".hpp" || extension == ".cpp" || extension == ".h" || extension == ".cu")
      found.push_back(entry.path());
  }
  return found;
}

std::vector<std::string> includes(const fs::path& path) {
  const std::string text = io::read_file(path);
  static const std::regex line("(?:^|\n)[ \t]*#[ \t]*include[ \t]*[\"<]([^\">]+)[\">]");
  std::vector<std::string> found;
  for (auto it = std::sregex_iterator(text.begin(), text.end(), line); it != std::sregex_iterator();
       ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

}  // namespace

TEST_CASE("folders depend in one direction: kernels, io, engine, launch") {
  const std::vector<std::string> order{"kernels", "io", "engine", "launch"};
  std::size_t checked = 0;
  for (std::size_t folder = 0; folder < order.size(); ++folder) {
    for (const fs::path& path : sources(order[folder])) {
      for (const std::string& include : includes(path)) {
        for (std::size_t later = folder + 1; later < order.size(); ++later) {
          CAPTURE(path.string(), include);
          REQUIRE_FALSE(include.starts_with(order[later] + "/"));
        }
        ++checked;
      }
    }
  }
  REQUIRE(checked > 300);
}

TEST_CASE("libraries are included where they belong") {
  // Header prefix to the folders that may include it.
  const std::map<std::string, std::set<std::string>> homes{
      {"hdf5.h", {"io"}},         {"zlib.h", {"io"}},    {"xxhash.h", {"io"}},
      {"mpi.h", {"engine/comm"}}, {"ATen/", {"engine"}}, {"torch/", {"engine"}},
      {"hwy/", {"kernels"}},      {"CLI/", {"launch"}},  {"toml++/", {"launch"}}};
  for (const std::string folder : {"kernels", "io", "engine", "launch"}) {
    for (const fs::path& path : sources(folder)) {
      const std::string place = fs::relative(path.parent_path(), HADAL_SOURCE_DIR).string();
      for (const std::string& include : includes(path)) {
        for (const auto& [prefix, allowed] : homes) {
          if (!include.starts_with(prefix)) continue;
          CAPTURE(path.string(), include);
          REQUIRE(std::any_of(allowed.begin(), allowed.end(),
                              [&](const std::string& home) { return place.starts_with(home); }));
        }
      }
    }
  }
}

TEST_CASE("every source includes its own header first") {
  std::size_t checked = 0;
  for (const std::string folder : {"kernels", "io", "engine", "launch"}) {
    for (const fs::path& path : sources(folder)) {
      const fs::path header = fs::path(path).replace_extension(".hpp");
      if (path.extension() != ".cpp" || !fs::exists(header)) continue;
      CAPTURE(path.string());
      REQUIRE(includes(path).front() == fs::relative(header, HADAL_SOURCE_DIR).generic_string());
      ++checked;
    }
  }
  REQUIRE(checked > 60);
}

TEST_CASE("environment variables are read in one file") {
  for (const std::string folder : {"kernels", "io", "engine", "launch"}) {
    for (const fs::path& path : sources(folder)) {
      if (path.filename() == "environment.cpp") continue;
      // A library of its own, loaded into others.
      if (path.parent_path().filename() == "faults") continue;
      CAPTURE(path.string());
      REQUIRE_FALSE(tests::contains(io::read_file(path), "getenv"));
    }
  }
}
