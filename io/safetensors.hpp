#pragma once
// The safetensors format: a JSON header of names, dtypes, shapes and offsets, then the raw tensors
// (https://github.com/huggingface/safetensors, "Format"). The reader is strict: no holes, overlaps,
// duplicates, trailing bytes or sizes that do not follow from the shape.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::io {

struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::int64_t begin = 0;  // bytes from the start of the file
  std::int64_t end = 0;

  std::int64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in file order
  std::map<std::string, std::string> metadata;
  std::int64_t file_bytes = 0;

  const TensorEntry* find(std::string_view name) const;
};

// Parses a header from the first bytes of a file of `file_bytes` bytes. `prefix` must hold the
// length field and the whole header. Throws a checkpoint error that says what is wrong.
SafetensorsHeader parse_safetensors(std::span<const std::byte> prefix, std::int64_t file_bytes);

// Reads the header of a file and checks it against the file's size. Throws a checkpoint error that
// names the file, also where it is no safetensors file at all (with what it looks like).
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

// Gives each tensor its place (in the order given, no padding between them) and returns the bytes
// of the length field and the header, padded with spaces so that the data starts at a multiple
// of 64. Sets `begin` and `end` of every entry.
std::string layout_safetensors(std::vector<TensorEntry>& tensors,
                               const std::map<std::string, std::string>& metadata);

// Of the whole file, once its tensors have their places.
std::int64_t file_bytes(const std::string& header, const std::vector<TensorEntry>& tensors);

}  // namespace hadal::io
