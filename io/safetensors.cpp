#include "io/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "io/atomic_file.hpp"
#include "io/error.hpp"

namespace hadal::io {
namespace {

using nlohmann::json;

constexpr std::int64_t kLengthBytes = 8;
// The reference implementation's limit.
constexpr std::int64_t kMaxHeaderBytes = 100'000'000;

Error bad(const std::string& why) { return {ErrorKind::checkpoint, why}; }

// JSON objects keep the last of two equal keys in silence; here a duplicate is an error.
json parse_strictly(std::string_view text) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second && duplicate.empty()) duplicate = key;
    }
    return true;
  };
  json parsed;
  try {
    parsed = json::parse(text, watch);
  } catch (const json::exception& failure) {
    throw bad(fmt::format("its header is not valid JSON ({})", failure.what()));
  }
  if (!duplicate.empty()) throw bad(fmt::format("its header names \"{}\" twice", duplicate));
  return parsed;
}

std::int64_t whole_number(const json& value, const std::string& what) {
  if (!value.is_number_unsigned()) throw bad(fmt::format("{} is not a whole number", what));
  const auto number = value.get<std::uint64_t>();
  if (number > static_cast<std::uint64_t>(INT64_MAX))
    throw bad(fmt::format("{} is too large", what));
  return static_cast<std::int64_t>(number);
}

TensorEntry parse_entry(const std::string& name, const json& value, std::int64_t data_begin) {
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    throw bad(fmt::format("tensor \"{}\" lacks dtype, shape or data_offsets", name));
  }
  TensorEntry entry{.name = name, .dtype = DType::f32, .shape = {}};
  const json& dtype = value["dtype"];
  const auto known =
      dtype.is_string() ? dtype_of_safetensors(dtype.get<std::string>()) : std::nullopt;
  if (!known) throw bad(fmt::format("tensor \"{}\" has the unknown dtype {}", name, dtype.dump()));
  entry.dtype = *known;
  const json& shape = value["shape"];
  if (!shape.is_array()) throw bad(fmt::format("the shape of \"{}\" is not a list", name));
  std::int64_t bytes = size_bytes(entry.dtype);
  for (const json& extent : shape) {
    entry.shape.push_back(whole_number(extent, fmt::format("a size of \"{}\"", name)));
    if (__builtin_mul_overflow(bytes, entry.shape.back(), &bytes)) {
      throw bad(fmt::format("the shape of \"{}\" is too large", name));
    }
  }
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    throw bad(fmt::format("data_offsets of \"{}\" is not a pair", name));
  }
  const std::int64_t begin = whole_number(offsets[0], fmt::format("an offset of \"{}\"", name));
  const std::int64_t end = whole_number(offsets[1], fmt::format("an offset of \"{}\"", name));
  if (end < begin || end - begin != bytes) {
    throw bad(fmt::format("tensor \"{}\" of shape {} needs {} bytes, its offsets are {} to {}",
                          name, to_string(entry.shape), bytes, begin, end));
  }
  if (end > INT64_MAX - data_begin) throw bad(fmt::format("offsets of \"{}\" are too large", name));
  entry.begin = data_begin + begin;
  entry.end = data_begin + end;
  return entry;
}

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// What a file that is no safetensors file seems to be, for the message.
std::string guess(std::span<const std::byte> start) {
  // Tensors may be strided or share memory, which the format does not hold.
  constexpr std::string_view kConvert =
      "convert a state dict once with python -c 'import torch, safetensors.torch as s; "
      "s.save_file({k: v.clone().contiguous() for k, v in torch.load(\"net.pt\", "
      "weights_only=True).items()}, \"net.safetensors\")'";
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  if (text.starts_with("PK\x03\x04")) {
    return fmt::format("a zip archive, as torch.save and torch.export write; {}", kConvert);
  }
  if (text.starts_with("\x89HDF\r\n\x1a\n")) return "an HDF5 file";
  if (text.starts_with("\x80")) {
    return fmt::format("a Python pickle, which is never read; {}", kConvert);
  }
  return "something else";
}

}  // namespace

const TensorEntry* SafetensorsHeader::find(std::string_view name) const {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const TensorEntry& entry) { return entry.name == name; });
  return it == tensors.end() ? nullptr : &*it;
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> prefix, std::int64_t file_bytes) {
  if (prefix.size() < static_cast<std::size_t>(kLengthBytes))
    throw bad("it is shorter than 8 bytes");
  const std::uint64_t length = little_endian(prefix);
  if (length > static_cast<std::uint64_t>(kMaxHeaderBytes)) {
    throw bad(fmt::format("its header would be {} bytes long", length));
  }
  const std::int64_t data_begin = kLengthBytes + static_cast<std::int64_t>(length);
  if (data_begin > file_bytes || static_cast<std::size_t>(data_begin) > prefix.size()) {
    throw bad(fmt::format("its header of {} bytes is cut off", length));
  }
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) throw bad("its header does not start with {");
  const json parsed = parse_strictly(text);
  SafetensorsHeader header;
  header.file_bytes = file_bytes;
  for (const auto& [name, value] : parsed.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(parse_entry(name, value, data_begin));
      continue;
    }
    if (!value.is_object()) throw bad("__metadata__ is not an object");
    for (const auto& [key, text_value] : value.items()) {
      if (!text_value.is_string()) throw bad(fmt::format("metadata \"{}\" is not a string", key));
      header.metadata[key] = text_value.get<std::string>();
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorEntry& a, const TensorEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  std::int64_t covered = data_begin;
  for (const TensorEntry& entry : header.tensors) {
    if (entry.begin != covered) {
      throw bad(fmt::format("tensor \"{}\" starts at byte {}, the one before ends at {}",
                            entry.name, entry.begin, covered));
    }
    covered = entry.end;
  }
  if (covered != file_bytes) {
    throw bad(
        fmt::format("its tensors end at byte {}, the file has {} bytes", covered, file_bytes));
  }
  return header;
}

SafetensorsHeader read_safetensors_header(const std::filesystem::path& path) {
  const UniqueFd fd = open_for_reading(path);
  std::error_code failure;
  const auto size = std::filesystem::file_size(path, failure);
  if (failure) {
    throw Error(ErrorKind::checkpoint,
                fmt::format("{} cannot be read: {}", path.string(), failure.message()));
  }
  const auto file_bytes = static_cast<std::int64_t>(size);
  std::vector<std::byte> prefix(static_cast<std::size_t>(std::min(file_bytes, kLengthBytes)));
  read_at(fd.get(), prefix, 0, path);
  if (file_bytes >= kLengthBytes) {
    const std::uint64_t length = little_endian(prefix);
    if (length <=
        static_cast<std::uint64_t>(std::min(kMaxHeaderBytes, file_bytes - kLengthBytes))) {
      prefix.resize(static_cast<std::size_t>(kLengthBytes) + length);
      read_at(fd.get(), prefix, 0, path);
    }
  }
  try {
    return parse_safetensors(prefix, file_bytes);
  } catch (const Error& error) {
    const std::string looks =
        prefix.size() < 9 || std::to_integer<char>(prefix[8]) != '{'
            ? fmt::format(" (it looks like {})", file_bytes == 0 ? "an empty file" : guess(prefix))
            : "";
    throw Error(ErrorKind::checkpoint, fmt::format("{} is not a usable safetensors file: {}{}",
                                                   path.string(), error.what(), looks));
  }
}

std::string layout_safetensors(std::vector<TensorEntry>& tensors,
                               const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t offset = 0;
  for (TensorEntry& entry : tensors) {
    entry.begin = offset;
    entry.end = offset + element_count(entry.shape) * size_bytes(entry.dtype);
    header[entry.name] = {{"dtype", safetensors_name(entry.dtype)},
                          {"shape", entry.shape},
                          {"data_offsets", {entry.begin, entry.end}}};
    offset = entry.end;
  }
  std::string text = header.dump();
  while ((text.size() + static_cast<std::size_t>(kLengthBytes)) % 64 != 0) text += ' ';
  std::string bytes(static_cast<std::size_t>(kLengthBytes), '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  bytes += text;
  for (TensorEntry& entry : tensors) {
    entry.begin += static_cast<std::int64_t>(bytes.size());
    entry.end += static_cast<std::int64_t>(bytes.size());
  }
  return bytes;
}

std::int64_t file_bytes(const std::string& header, const std::vector<TensorEntry>& tensors) {
  return tensors.empty() ? std::ssize(header) : tensors.back().end;
}

}  // namespace hadal::io
