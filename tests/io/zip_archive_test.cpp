#include "io/zip_archive.hpp"

#include <cstring>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(HADAL_SOURCE_DIR) / "tests/golden/pt2/torch-2.11.0/lstm.pt2";

std::string fault(const std::string& bytes) {
  return tests::error_of(io::ErrorKind::checkpoint, [&] {
    const io::ZipArchive archive(std::as_bytes(std::span(bytes)), "input");
    for (const auto& [name, entry] : archive.entries()) static_cast<void>(archive.read(entry));
  });
}

}  // namespace

TEST_CASE("an archive that PyTorch wrote is read entry by entry") {
  const io::ZipArchive archive(kGolden);
  REQUIRE(io::is_zip(kGolden));
  REQUIRE(archive.entries().size() == 19);
  REQUIRE(archive.read_text(*archive.find("archive_format")) == "pt2");
  REQUIRE(archive.find("data/weights/weight_0")->size == 32 * 4 * 4);
  REQUIRE(archive.find("nothing") == nullptr);
}

TEST_CASE("a damaged archive is refused with its reason") {
  const std::string good = io::read_file(kGolden);
  REQUIRE(tests::contains(fault(good.substr(0, good.size() / 2)), "no end record"));
  REQUIRE(tests::contains(fault(""), "no end record"));
  std::string flipped = good;
  flipped[100] = static_cast<char>(flipped[100] ^ 1);
  REQUIRE(tests::contains(fault(flipped), "does not match its checksum"));
  // The first central header, where the end record says: compression method, then size.
  std::uint32_t begin = 0;
  std::memcpy(&begin, good.data() + good.rfind("PK\x05\x06") + 16, sizeof begin);
  const std::size_t central = begin;
  std::string packed = good;
  packed[central + 10] = 8;
  REQUIRE(tests::contains(fault(packed), "compressed or encrypted"));
  std::string huge = good;
  huge.replace(central + 20, 8, "\xf0\xff\xff\x7f\xf0\xff\xff\x7f");
  REQUIRE(tests::contains(fault(huge), "outside the file"));
  std::string moved = good;
  const std::size_t second = good.find("PK\x01\x02", central + 4);
  moved.replace(second + 42, 4, good.substr(central + 42, 4));
  REQUIRE(tests::contains(fault(moved), "overlap"));
}

TEST_CASE("a copy has the new bytes of one entry and its checksum, all else as before") {
  const tests::TemporaryFolder folder;
  const io::ZipArchive archive(kGolden);
  const std::string name = "data/weights/weight_0";
  const std::vector<std::byte> bytes(static_cast<std::size_t>(archive.find(name)->size),
                                     std::byte{7});
  io::copy_zip_with(archive, kGolden, folder / "copy.pt2", {{name, bytes}});
  const io::ZipArchive copy(folder / "copy.pt2");
  for (const auto& [entry_name, entry] : archive.entries()) {
    REQUIRE(copy.read(*copy.find(entry_name)) ==
            (entry_name == name ? bytes : archive.read(entry)));
  }
}
