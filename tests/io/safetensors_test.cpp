#include "io/safetensors.hpp"

#include <fstream>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::vector<std::byte> file_with(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i)
    bytes[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
  bytes += header + std::string(data_bytes, 'x');
  const auto view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

std::string fault(const std::string& header, std::size_t data_bytes) {
  const auto bytes = file_with(header, data_bytes);
  return tests::error_of(io::ErrorKind::checkpoint, [&] {
    io::parse_safetensors(bytes, static_cast<std::int64_t>(bytes.size()));
  });
}

}  // namespace

TEST_CASE("what is laid out reads back") {
  std::vector<io::TensorEntry> entries{
      {.name = "b.weight", .dtype = io::DType::f32, .shape = {2, 3}},
      {.name = "empty", .dtype = io::DType::f32, .shape = {0, 4}},
      {.name = "a \"quoted\"", .dtype = io::DType::i64, .shape = {}}};
  const std::string header = io::layout_safetensors(entries, {{"format", "pt"}});
  REQUIRE(header.size() % 64 == 0);
  REQUIRE(entries[0].begin == static_cast<std::int64_t>(header.size()));
  const auto prefix = std::as_bytes(std::span(header));
  const auto parsed = io::parse_safetensors(prefix, entries[2].end);
  REQUIRE(parsed.tensors.size() == 3);
  REQUIRE(parsed.metadata.at("format") == "pt");
  for (const io::TensorEntry& entry : entries) {
    const io::TensorEntry* found = parsed.find(entry.name);
    REQUIRE(found != nullptr);
    REQUIRE(found->shape == entry.shape);
    REQUIRE(found->begin == entry.begin);
    REQUIRE(found->end == entry.end);
  }
}

TEST_CASE("a header that breaks the format is refused with its reason") {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  REQUIRE(fault(good, 8) == "no error");
  REQUIRE(tests::contains(fault(good, 9), "end at byte"));
  REQUIRE(tests::contains(fault(good, 7), "end at byte"));
  REQUIRE(tests::contains(fault("[1]", 0), "does not start with {"));
  REQUIRE(tests::contains(fault(R"({"a":)", 0), "not valid JSON"));
  REQUIRE(tests::contains(
      fault(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          8),
      "twice"));
  REQUIRE(tests::contains(fault(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8),
                          "unknown dtype"));
  REQUIRE(tests::contains(fault(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
                          "needs 12 bytes"));
  REQUIRE(tests::contains(fault(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", 8),
                          "whole number"));
  REQUIRE(tests::contains(
      fault(R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}})", 8),
      "too large"));
  REQUIRE(tests::contains(fault(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12),
                          "starts at byte"));
  REQUIRE(tests::contains(
      fault(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          12),
      "starts at byte"));
  REQUIRE(tests::contains(fault(R"({"__metadata__":{"a":1}})", 0), "not a string"));
}

TEST_CASE("files of other kinds are named for what they look like") {
  const tests::TemporaryFolder folder;
  const auto refuse = [&](const std::string& content) {
    const auto path = folder / "file.safetensors";
    std::ofstream(path, std::ios::binary) << content;
    return tests::error_of(io::ErrorKind::checkpoint, [&] { io::read_safetensors_header(path); });
  };
  REQUIRE(tests::contains(refuse(""), "an empty file"));
  REQUIRE(tests::contains(refuse("plain text, rather long"), "something else"));
  REQUIRE(tests::contains(refuse(std::string("PK\x03\x04") + std::string(60, 'z')), "zip archive"));
  REQUIRE(tests::contains(refuse(std::string("\x80\x04") + std::string(60, 'z')), "pickle"));
}
