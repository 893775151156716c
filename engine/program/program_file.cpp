#include "engine/program/program_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::engine {
namespace {

using nlohmann::json;

constexpr std::int64_t kSchemaMajor = 8;
constexpr const char* kHowToExport =
    "torch.export.save(torch.export.export(model.train(), (x,)), \"net.pt2\") with torch 2.9 to "
    "2.15, or engine/export/hadal_export.py";

std::int64_t static_size(const json& size) {
  if (!size.contains("as_int")) {
    throw std::invalid_argument("a size that is no number");
  }
  const auto value = size.at("as_int").get<std::int64_t>();
  if (value < 0) throw std::invalid_argument("a negative size");
  return value;
}

io::Shape static_sizes(const json& sizes) {
  io::Shape shape;
  for (const json& size : sizes) shape.push_back(static_size(size));
  return shape;
}

// Elements of a shape, or nothing where they do not fit 63 bits.
std::optional<std::int64_t> checked_count(const io::Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  }
  return count;
}

// One behind the last element that a strided tensor touches.
std::optional<std::int64_t> checked_end(const Payload& payload) {
  std::int64_t end = payload.offset;
  for (std::size_t d = 0; d < payload.shape.size(); ++d) {
    if (payload.shape[d] == 0) return 0;
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(payload.shape[d] - 1, payload.strides[d], &reach) ||
        __builtin_add_overflow(end, reach, &end)) {
      return std::nullopt;
    }
  }
  return __builtin_add_overflow(end, 1, &end) ? std::nullopt : std::optional(end);
}

std::string decode_base64(const std::string& text) {
  static const std::string kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string::npos) break;
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes.push_back(static_cast<char>((bits >> held) & 0xffu));
  }
  return bytes;
}

const Payload* find(const std::vector<Payload>& payloads, const std::string& name) {
  const auto it = std::find_if(payloads.begin(), payloads.end(),
                               [&](const Payload& payload) { return payload.name == name; });
  return it == payloads.end() ? nullptr : &*it;
}

// Copies between C order and a strided place, element by element in C order.
template <class Copy>
void for_each_element(const Payload& payload, Copy copy) {
  const std::int64_t count = io::element_count(payload.shape);
  io::Shape index(payload.shape.size(), 0);
  std::int64_t place = payload.offset;
  for (std::int64_t i = 0; i < count; ++i) {
    copy(static_cast<std::size_t>(i), static_cast<std::size_t>(place));
    for (std::size_t d = index.size(); d-- > 0;) {
      place += payload.strides[d];
      if (++index[d] < payload.shape[d]) break;
      place -= payload.strides[d] * payload.shape[d];
      index[d] = 0;
    }
  }
}

}  // namespace

bool Payload::is_contiguous() const {
  std::int64_t expected = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return offset == 0;
}

bool Payload::is_tied_to(const Payload& other) const {
  return record == other.record && offset == other.offset && shape == other.shape &&
         strides == other.strides;
}

std::optional<io::DType> dtype_of_export(std::int64_t number) {
  using enum io::DType;
  switch (number) {
    case 1:
      return u8;
    case 2:
      return i8;
    case 3:
      return i16;
    case 4:
      return i32;
    case 5:
      return i64;
    case 6:
      return f16;
    case 7:
      return f32;
    case 8:
      return f64;
    case 12:
      return boolean;
    case 13:
      return bf16;
    default:
      return std::nullopt;
  }
}

ProgramFile::ProgramFile(const std::filesystem::path& path)
    : path_(path), archive_([&] {
        std::error_code ignored;
        if (!std::filesystem::is_regular_file(path, ignored)) {
          throw io::Error(io::ErrorKind::checkpoint, fmt::format("{} is no file", path.string()));
        }
        return io::ZipArchive(path);
      }()) {
  parse();
}

ProgramFile::ProgramFile(io::ZipArchive archive) : archive_(std::move(archive)) { parse(); }

json ProgramFile::parse_json(const std::string& entry) const {
  const io::ZipEntry* found = archive_.find(entry);
  if (found == nullptr) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{} holds no {}; export it with {}", name(), entry, kHowToExport));
  }
  json parsed = io::parse_json(archive_.read_text(*found));
  if (!parsed.is_object()) {
    throw io::Error(io::ErrorKind::checkpoint, fmt::format("{}: {} is damaged", name(), entry));
  }
  return parsed;
}

std::vector<Payload> ProgramFile::parse_payloads(const std::string& folder,
                                                 const std::string& config) const {
  std::vector<Payload> payloads;
  const json parsed = parse_json(folder + config);
  for (const auto& [payload_name, stored] : parsed.at("config").items()) {
    const auto refuse = [&](const std::string& why) {
      return io::Error(
          io::ErrorKind::checkpoint,
          fmt::format("{}: {} {}; export it with {}", name(), payload_name, why, kHowToExport));
    };
    if (stored.at("use_pickle").get<bool>()) {
      throw refuse("is pickled, and pickle is never read (a tensor subclass or custom object)");
    }
    const json& meta = stored.at("tensor_meta");
    if (!meta.is_object()) throw refuse("is no tensor");
    Payload payload{.name = payload_name,
                    .record = folder + stored.at("path_name").get<std::string>()};
    const auto dtype = dtype_of_export(meta.at("dtype").get<std::int64_t>());
    if (!dtype) throw refuse("has a number type that is not supported");
    payload.dtype = *dtype;
    payload.shape = static_sizes(meta.at("sizes"));
    payload.strides = static_sizes(meta.at("strides"));
    payload.offset = static_size(meta.at("storage_offset"));
    payload.requires_grad = meta.at("requires_grad").get<bool>();
    const io::ZipEntry* record = archive_.find(payload.record);
    if (record == nullptr) throw refuse(fmt::format("has no bytes ({})", payload.record));
    if (payload.strides.size() != payload.shape.size()) throw refuse("has no usable strides");
    const std::int64_t available = record->size / io::size_bytes(payload.dtype);
    const auto count = checked_count(payload.shape);
    const auto end = checked_end(payload);
    if (!count || !end || *end > available || *count > available) {
      throw refuse(fmt::format("of shape {} does not fit its {} bytes",
                               io::to_string(payload.shape), record->size));
    }
    payloads.push_back(std::move(payload));
  }
  return payloads;
}

void ProgramFile::parse_extras() {
  const io::ZipEntry* noted = archive_.find("extra/hadal.json");
  if (noted == nullptr) return;
  notes_ = parse_json("extra/hadal.json");
  if (archive_.find("extra/hadal_eval.json") == nullptr) return;
  evaluation_ = parse_json("extra/hadal_eval.json");
  // Constants that the evaluation alone has stand in the notes.
  if (!notes_.contains("eval_constants")) return;
  for (const auto& [constant_name, stored] : notes_.at("eval_constants").items()) {
    Payload payload{.name = constant_name, .record = {}};
    const auto dtype = dtype_of_export(stored.at("dtype").get<std::int64_t>());
    payload.shape = stored.at("sizes").get<io::Shape>();
    payload.inlined = decode_base64(stored.at("data").get<std::string>());
    const auto count = checked_count(payload.shape);
    payload.dtype = dtype.value_or(io::DType::u8);
    const auto held = static_cast<std::int64_t>(payload.inlined.size());
    if (!dtype || !count || *count < 0 || *count > held ||
        *count * io::size_bytes(payload.dtype) != held) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{}: the constant {} is damaged", name(), constant_name));
    }
    payload.strides.assign(payload.shape.size(), 1);
    for (std::size_t d = payload.shape.size(); d-- > 1;) {
      payload.strides[d - 1] = payload.strides[d] * payload.shape[d];
    }
    constants_.push_back(std::move(payload));
  }
}

void ProgramFile::parse() {
  try {
    if (archive_.find("data/weights/model.pt") != nullptr ||
        archive_.find("serialized_exported_program.json") != nullptr) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("{} was written by torch 2.8 or older, which pickled the "
                                  "weights, and pickle is never read; export it again: {}",
                                  name(), kHowToExport));
    }
    program_ = parse_json("models/model.json");
    torch_version_ = program_.value("torch_version", "an unknown version");
    const json& version = program_.at("schema_version");
    const auto major = version.at("major").get<std::int64_t>();
    schema_version_ = fmt::format("{}.{}", major, version.at("minor").get<std::int64_t>());
    if (major != kSchemaMajor) {
      throw io::Error(
          io::ErrorKind::checkpoint,
          fmt::format("{} has the export schema {} (torch {}), this program reads {}.x;"
                      " export it with {}",
                      name(), schema_version_, torch_version_, kSchemaMajor, kHowToExport));
    }
    weights_ = parse_payloads("data/weights/", "model_weights_config.json");
    constants_ = parse_payloads("data/constants/", "model_constants_config.json");
    parse_extras();
  } catch (const io::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{} is damaged or of a format that is not known (torch {}): {}",
                                name(), torch_version_, error.what()));
  }
}

const Payload* ProgramFile::weight(const std::string& weight_name) const {
  return find(weights_, weight_name);
}

const Payload* ProgramFile::constant(const std::string& constant_name) const {
  return find(constants_, constant_name);
}

std::vector<std::byte> ProgramFile::read(const Payload& payload) const {
  const auto width = static_cast<std::size_t>(io::size_bytes(payload.dtype));
  const auto bytes = static_cast<std::size_t>(io::element_count(payload.shape)) * width;
  if (payload.record.empty()) {
    const auto* from = reinterpret_cast<const std::byte*>(payload.inlined.data());
    return {from, from + bytes};
  }
  std::vector<std::byte> stored = archive_.read(*archive_.find(payload.record));
  if (payload.is_contiguous()) {
    stored.resize(bytes);
    return stored;
  }
  std::vector<std::byte> values(bytes);
  for_each_element(payload, [&](std::size_t to, std::size_t from) {
    std::copy_n(stored.begin() + static_cast<std::ptrdiff_t>(from * width), width,
                values.begin() + static_cast<std::ptrdiff_t>(to * width));
  });
  return values;
}

void ProgramFile::copy_with(const std::filesystem::path& target,
                            const std::map<std::string, std::vector<std::byte>>& values) const {
  std::map<std::string, std::vector<std::byte>> records;
  for (const Payload& payload : weights_) {
    const auto found = values.find(payload.name);
    if (found == values.end()) continue;
    std::vector<std::byte>& record = records[payload.record];
    if (record.empty()) record = archive_.read(*archive_.find(payload.record));
    const auto width = static_cast<std::size_t>(io::size_bytes(payload.dtype));
    for_each_element(payload, [&](std::size_t from, std::size_t to) {
      std::copy_n(found->second.begin() + static_cast<std::ptrdiff_t>(from * width), width,
                  record.begin() + static_cast<std::ptrdiff_t>(to * width));
    });
  }
  io::copy_zip_with(archive_, path_, target, records);
}

}  // namespace hadal::engine
