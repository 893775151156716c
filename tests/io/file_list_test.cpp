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

TEST_CASE("what is no UTF-8, and what would control a terminal, is shown by its numbers") {
  CHECK(io::readable("a b\n\tÄ€𝄞") == "a b\n\tÄ€𝄞");
  CHECK(io::readable("d\xe9.h5") == "d\\xe9.h5");
  CHECK(io::readable("\x1b[31m\x7f\r") == "\\x1b[31m\\x7f\\x0d");
  // Cut off, over-long, a surrogate, beyond the last character.
  CHECK(io::readable("\xe2\x82") == "\\xe2\\x82");
  CHECK(io::readable("\xc0\xaf") == "\\xc0\\xaf");
  CHECK(io::readable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(io::readable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(std::string(io::Error(io::ErrorKind::data, "\xff").what()) == "\\xff");
}
