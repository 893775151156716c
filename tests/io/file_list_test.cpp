#include "io/file_list.hpp"

#include <fstream>

#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("patterns give files in one order, exact names win, strays are noted") {
  const tests::TemporaryFolder folder;
  const auto in = [&](const std::string& name) { return (folder / name).string(); };
  for (const char* name : {"s 2.h5", "s 10.h5", "s_0.h5.tmp", "s [v1] 100%.h5"})
    std::ofstream(folder / name) << "x";
  std::filesystem::create_directory(folder / "s_x.h5");
  const auto list = io::list_files({in("s*.h5*")});
  REQUIRE(list.faults.empty());
  REQUIRE(list.files ==
          std::vector<std::filesystem::path>{in("s 10.h5"), in("s 2.h5"), in("s [v1] 100%.h5")});
  REQUIRE(list.notes.size() == 2);
  REQUIRE(io::list_files({in("s [v1] 100%.h5")}).files.size() == 1);
  REQUIRE(tests::contains(io::list_files({in("t*.h5")}).faults.at(0), "no file matches \"t*.h5\""));
  REQUIRE(tests::contains(io::list_files({in("gone.h5")}).faults.at(0), "does not exist"));
  REQUIRE(tests::contains(io::list_files({folder.path().string()}).faults.at(0), "is a folder"));
  REQUIRE(
      tests::contains(io::list_files({in("s 2.h5"), in("s*2.h5")}).faults.at(0), "listed twice"));
}
