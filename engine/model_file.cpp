#include "engine/model_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <set>

#include "io/atomic_file.hpp"
#include "io/convert.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// Visits every buffer with the bytes that hold its value.
template <class Visit>
void for_each_buffer(const Model& model, BufferValues& values, Visit visit) {
  std::size_t floats = 0, integers = 0;
  for (const BufferSpec& spec : model.buffers()) {
    const auto count = static_cast<std::size_t>(io::element_count(spec.shape));
    if (spec.dtype == io::DType::f32) {
      visit(spec, std::as_writable_bytes(std::span(values.floats).subspan(floats, count)));
      floats += count;
    } else {
      visit(spec, std::as_writable_bytes(std::span(values.integers).subspan(integers, count)));
      integers += count;
    }
  }
}

struct Reader {
  const std::filesystem::path& path;
  io::SafetensorsHeader header;
  io::UniqueFd fd;
  std::set<std::string> used;
  std::vector<std::string> faults;

  void read(const std::string& name, const io::Shape& shape, io::DType dtype, bool needed,
            std::span<std::byte> out) {
    const io::TensorEntry* entry = header.find(name);
    if (entry == nullptr) {
      if (needed) faults.push_back(fmt::format("missing: {}", name));
      return;
    }
    used.insert(name);
    if (entry->shape != shape) {
      faults.push_back(fmt::format("{} has the shape {}, the model needs {}", name,
                                   io::to_string(entry->shape), io::to_string(shape)));
      return;
    }
    std::vector<std::byte> stored(static_cast<std::size_t>(entry->bytes()));
    io::read_at(fd.get(), stored, entry->begin, path);
    if (const auto fault = io::convert(stored, entry->dtype, out, dtype)) {
      faults.push_back(
          fmt::format("{} holds {}, which is no {}", name, fault->value, io::name_of(dtype)));
    }
  }
};

}  // namespace

void append_blocks(io::HashingFile& file, const ArenaLayout& layout, std::span<const float> arena,
                   std::size_t first, std::size_t last, std::int64_t arena_begin) {
  for (std::size_t b = first; b < last; ++b) {
    const ArenaBlock& block = layout.blocks()[b];
    file.append(std::as_bytes(arena.subspan(static_cast<std::size_t>(block.offset - arena_begin),
                                            static_cast<std::size_t>(block.count))));
  }
}

io::FileDigest write_model(const std::filesystem::path& path, const Model& model,
                           const ArenaLayout& layout, std::span<const float> parameters,
                           const BufferValues& buffers) {
  std::vector<io::TensorEntry> entries;
  for (const ArenaEntry& entry : layout.entries()) {
    entries.push_back({.name = entry.name, .dtype = io::DType::f32, .shape = entry.shape});
  }
  for (const BufferSpec& spec : model.buffers()) {
    entries.push_back({.name = spec.name, .dtype = spec.dtype, .shape = spec.shape});
  }
  io::HashingFile file(path);
  const std::string header = io::layout_safetensors(entries, {{"format", "pt"}});
  file.append(std::as_bytes(std::span(header)));
  append_blocks(file, layout, parameters, 0, layout.blocks().size(), 0);
  BufferValues copy = buffers;
  for_each_buffer(model, copy,
                  [&](const BufferSpec&, std::span<std::byte> bytes) { file.append(bytes); });
  return file.close();
}

void write_model_atomically(const std::filesystem::path& path, const Model& model,
                            const ArenaLayout& layout, std::span<const float> parameters,
                            const BufferValues& buffers) {
  io::create_folders(path.parent_path());
  std::filesystem::path beside = path;
  beside += fmt::format(".tmp-{}", ::getpid());
  static_cast<void>(write_model(beside, model, layout, parameters, buffers));
  std::error_code failure;
  std::filesystem::rename(beside, path, failure);
  if (failure) {
    throw io::Error(io::ErrorKind::storage,
                    fmt::format("cannot rename onto {}: {}", path.string(), failure.message()));
  }
  io::sync_folder(path.parent_path());
}

void read_model(const std::filesystem::path& path, bool strict, const Model& model,
                const ArenaLayout& layout, std::span<float> parameters, BufferValues& buffers) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{} is no file{}", path.string(),
                                std::filesystem::is_directory(path, ignored)
                                    ? "; name the model.safetensors in it"
                                    : ""));
  }
  Reader reader{.path = path,
                .header = io::read_safetensors_header(path),
                .fd = io::open_for_reading(path),
                .used = {},
                .faults = {}};
  for (const ArenaEntry& entry : layout.entries()) {
    reader.read(entry.name, entry.shape, io::DType::f32, strict,
                std::as_writable_bytes(parameters.subspan(static_cast<std::size_t>(entry.offset),
                                                          static_cast<std::size_t>(entry.count))));
  }
  for_each_buffer(model, buffers, [&](const BufferSpec& spec, std::span<std::byte> bytes) {
    reader.read(spec.name, spec.shape, spec.dtype, strict, bytes);
  });
  for (const io::TensorEntry& entry : reader.header.tensors) {
    if (strict && !reader.used.contains(entry.name)) {
      reader.faults.push_back(fmt::format("not in the model: {}", entry.name));
    }
  }
  if (reader.faults.empty()) return;
  constexpr std::size_t kShown = 12;
  const std::size_t all = reader.faults.size();
  if (all > kShown) {
    reader.faults.resize(kShown);
    reader.faults.push_back(fmt::format("… and {} more", all - kShown));
  }
  throw io::Error(io::ErrorKind::checkpoint,
                  fmt::format("{} does not fit the model:\n  {}", path.string(),
                              fmt::join(reader.faults, "\n  ")));
}

}  // namespace hadal::engine
