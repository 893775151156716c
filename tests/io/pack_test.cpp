#include "io/pack.hpp"

#include <cstring>
#include <fstream>
#include <set>

#include "io/hdf5_file.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::vector<float> values_of(const std::filesystem::path& path, const std::string& dataset) {
  const io::Hdf5File file(path);
  const auto stored = file.describe(dataset);
  std::vector<float> values(static_cast<std::size_t>(io::element_count(stored.shape)));
  file.read_rows(stored, 0, stored.rows(), std::as_writable_bytes(std::span(values)));
  return values;
}

std::string pack_error(io::ErrorKind kind, const io::PackOptions& options) {
  return tests::error_of(kind, [&] { io::pack(options); });
}

// numpy.save of a float32 array of shape [rows, 2].
void write_npy(const std::filesystem::path& path, const std::string& type, const std::string& shape,
               const std::string& data, const std::string& fortran = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size() & 0xff)
       << static_cast<char>(header.size() >> 8) << header << data;
}

}  // namespace

TEST_CASE("a table becomes shards with every row once") {
  const tests::TemporaryFolder folder;
  {
    std::ofstream table(folder / "t.csv");
    table << "a,b,label\r\n";
    for (int i = 0; i < 100; ++i) table << i << "," << i + 0.5 << "," << i % 3 << "\n\n";
  }
  const io::PackOptions options{.sources = {folder / "t.csv"},
                                .output = folder / "out",
                                .input_columns = "a,b",
                                .target_columns = "label",
                                .input_shape = {1, 2},
                                .shards = 3};
  const auto result = io::pack(options);
  REQUIRE(result.train_samples == 80);
  REQUIRE(result.valid_samples == 20);
  REQUIRE(result.files.size() == 4);
  std::set<float> seen;
  for (const auto& file : result.files) {
    REQUIRE(io::Hdf5File(file.path).describe("/x").sample_shape() == io::Shape{1, 2});
    const auto x = values_of(file.path, "/x");
    for (std::size_t i = 0; i < x.size(); i += 2) {
      REQUIRE(x[i + 1] == x[i] + 0.5f);
      REQUIRE(seen.insert(x[i]).second);
    }
  }
  REQUIRE(seen.size() == 100);
}

TEST_CASE("faults in a table are named with line and column") {
  const tests::TemporaryFolder folder;
  const auto with = [&](const std::string& text) {
    std::ofstream(folder / "t.csv") << text;
    return io::PackOptions{.sources = {folder / "t.csv"},
                           .output = folder / "out",
                           .input_columns = "0-1",
                           .target_columns = "2",
                           .valid_fraction = 0};
  };
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, with("1,2,3\n4,5\n")),
                          "t.csv:2 has 2 fields"));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, with("1,2,3\n4,x,6\n")),
                          "t.csv:2: column 1 holds \"x\""));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, with("1,2,3.5\n")), "is no int64"));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, with("1,nan,3\n")), "is no float32"));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, with("")), "has no lines"));
  auto options = with("1,2,3\n");
  options.input_columns = "0-7";
  REQUIRE(tests::contains(pack_error(io::ErrorKind::usage, options), "columns 0 to 2"));
  options = with("pixel,other,label\n1,2,3\n");
  options.target_columns = "lable";
  REQUIRE(tests::contains(pack_error(io::ErrorKind::usage, options), "did you mean label?"));
  options = with("1,2,3\n");
  options.input_shape = {3};
  REQUIRE(tests::contains(pack_error(io::ErrorKind::usage, options), "--shape"));
}

TEST_CASE("pairs of .npy arrays are packed, odd ones refused") {
  const tests::TemporaryFolder folder;
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> y{0, 1, 2};
  write_npy(folder / "x.npy", "<f4", "(3, 2)",
            std::string(reinterpret_cast<const char*>(x.data()), 24));
  write_npy(folder / "y.npy", "<i8", "(3,)",
            std::string(reinterpret_cast<const char*>(y.data()), 24));
  io::PackOptions options{.sources = {folder / "x.npy", folder / "y.npy"},
                          .output = folder / "out",
                          .valid_fraction = 0};
  const auto result = io::pack(options);
  REQUIRE(values_of(result.files.at(0).path, "/x") == x);
  write_npy(folder / "y.npy", "<i8", "(2,)", std::string(16, '\0'));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, options), "has 3 rows"));
  write_npy(folder / "y.npy", "<i8", "(3,)", std::string(16, '\0'));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, options), "is cut off"));
  write_npy(folder / "y.npy", "|O", "(3,)", std::string(24, '\0'));
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, options), "has the type |O"));
  write_npy(folder / "x.npy", "<f4", "(3, 2)", std::string(24, '\0'), "True");
  REQUIRE(tests::contains(pack_error(io::ErrorKind::data, options), "Fortran order"));
}
