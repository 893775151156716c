#include "io/safetensors.hpp"

#include <stdexcept>

#include "io/error.hpp"
#include "tests/fuzz/target.hpp"

using namespace hadal;

void fuzz_one(const std::string& input) {
  try {
    const auto bytes = std::as_bytes(std::span(input));
    const auto header = io::parse_safetensors(bytes, static_cast<std::int64_t>(bytes.size()));
    // What is accepted must lie inside the file, without holes.
    std::int64_t at = header.tensors.empty() ? 0 : header.tensors.front().begin;
    for (const io::TensorEntry& entry : header.tensors) {
      if (entry.begin != at ||
          entry.bytes() != io::element_count(entry.shape) * io::size_bytes(entry.dtype)) {
        throw std::logic_error("an accepted tensor does not fit its place");
      }
      at = entry.end;
    }
    if (!header.tensors.empty() && at != static_cast<std::int64_t>(bytes.size())) {
      throw std::logic_error("an accepted file has bytes left");
    }
  } catch (const io::Error& error) {
    if (error.kind() != io::ErrorKind::checkpoint) throw;
  }
}

std::vector<std::string> fuzz_corpus() {
  std::vector<io::TensorEntry> entries{{.name = "a", .dtype = io::DType::f32, .shape = {2, 2}},
                                       {.name = "b.bias", .dtype = io::DType::i64, .shape = {}},
                                       {.name = "none", .dtype = io::DType::bf16, .shape = {0, 3}}};
  const std::string whole =
      io::layout_safetensors(entries, {{"format", "pt"}}) + std::string(24, '\0');
  std::vector<io::TensorEntry> one{{.name = "x", .dtype = io::DType::u8, .shape = {3}}};
  return {whole, io::layout_safetensors(one, {}) + "abc"};
}
