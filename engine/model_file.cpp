#include "engine/model_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "engine/glob.hpp"
#include "engine/weight_source.hpp"
#include "io/atomic_file.hpp"
#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

// Visits every buffer of the state dict with the bytes that hold its value. A buffer that training
// changes is kept even where Python would leave it out: a resumed run needs it.
template <class Visit>
void for_each_buffer(const Model& model, Weights& weights, Visit visit) {
  for (std::size_t i = 0; i < model.buffers().size(); ++i) {
    visit(model.buffers().specs()[i], model.buffers().of(weights.buffers, i));
  }
  for (std::size_t i = 0; i < model.constants().size(); ++i) {
    const BufferSpec& spec = model.constants().specs()[i];
    if (spec.persistent) visit(spec, model.constants().of(weights.constants, i));
  }
}

// Reads tensors into their places and keeps the table of what did not match.
class Reader {
 public:
  Reader(const WeightSource& source, const std::vector<std::string>& reset)
      : source_(source), reset_(reset) {}

  // `names`: of one tensor, where it is tied; one of them is enough. Where `out` is empty nothing
  // is read: another rank does it.
  void read(const std::vector<std::string>& names, const io::Shape& shape, io::DType dtype,
            std::span<std::byte> out) {
    std::string found;
    for (const std::string& name : names) {
      used_.insert(name);
      if (found.empty() && source_.find(name) != nullptr) found = name;
    }
    if (matches_any(reset_, names.front())) return;
    if (found.empty()) {
      missing.push_back(fmt::format("missing: {} {}", names.front(), io::to_string(shape)));
      return;
    }
    const io::TensorEntry& entry = *source_.find(found);
    if (entry.shape != shape) {
      misfits.push_back(
          fmt::format("{} has the shape {}, the model needs {}; for a new one: "
                      "model.reset = [\"{}\"]",
                      found, io::to_string(entry.shape), io::to_string(shape), found));
      return;
    }
    ++matched;
    if (out.empty()) return;
    const std::vector<std::byte> stored = source_.read(found);
    if (entry.dtype == dtype) {
      std::copy(stored.begin(), stored.end(), out.begin());
    } else if (const auto fault = io::convert(stored, entry.dtype, out, dtype)) {
      misfits.push_back(
          fmt::format("{} holds {}, which is no {}", found, fault->value, io::name_of(dtype)));
    }
  }

  std::vector<std::string> unexpected() const {
    std::vector<std::string> lines;
    for (const std::string& name : source_.names()) {
      if (!used_.contains(name)) lines.push_back(fmt::format("not in the model: {}", name));
    }
    return lines;
  }

  std::size_t matched = 0;
  std::vector<std::string> missing;
  std::vector<std::string> misfits;

 private:
  const WeightSource& source_;
  const std::vector<std::string>& reset_;
  std::set<std::string> used_;
};

std::string listed(std::vector<std::string> lines) {
  constexpr std::size_t kShown = 12;
  const std::size_t all = lines.size();
  if (all > kShown) {
    lines.resize(kShown);
    lines.push_back(fmt::format("… and {} more", all - kShown));
  }
  return fmt::format("{}", fmt::join(lines, "\n  "));
}

std::vector<std::string> names_of(const Model& model, const ArenaEntry& entry) {
  std::vector<std::string> names{entry.name};
  const std::vector<std::string>& aliases = model.parameters()[entry.parameter].aliases;
  names.insert(names.end(), aliases.begin(), aliases.end());
  return names;
}

}  // namespace

void for_each_tensor(const Model& model, Weights& weights,
                     const std::function<void(io::TensorEntry, std::span<std::byte>)>& visit) {
  weights.for_each_parameter([&](const ArenaEntry& entry, std::span<float> values) {
    for (const std::string& name : names_of(model, entry)) {
      visit({.name = name, .dtype = io::DType::f32, .shape = entry.shape},
            std::as_writable_bytes(values));
    }
  });
  for_each_buffer(model, weights, [&](const BufferSpec& spec, std::span<std::byte> bytes) {
    visit({.name = spec.name, .dtype = spec.dtype, .shape = spec.shape}, bytes);
  });
}

io::FileDigest write_model(const std::filesystem::path& path, const Model& model,
                           Weights& weights) {
  std::vector<io::TensorEntry> entries;
  for_each_tensor(model, weights, [&](io::TensorEntry entry, std::span<std::byte>) {
    entries.push_back(std::move(entry));
  });
  io::HashingFile file(path);
  const std::string header = io::layout_safetensors(entries, {{"format", "pt"}});
  file.reserve(io::file_bytes(header, entries));
  file.append(std::as_bytes(std::span(header)));
  for_each_tensor(model, weights,
                  [&](const io::TensorEntry&, std::span<std::byte> bytes) { file.append(bytes); });
  return file.close();
}

void write_model_atomically(const std::filesystem::path& path, const Model& model,
                            Weights& weights) {
  io::create_folders(path.parent_path());
  std::filesystem::path beside = path;
  beside += fmt::format(".tmp-{}", ::getpid());
  static_cast<void>(write_model(beside, model, weights));
  std::error_code failure;
  std::filesystem::rename(beside, path, failure);
  if (failure) {
    throw io::Error(io::ErrorKind::storage,
                    fmt::format("cannot rename onto {}: {}", path.string(), failure.message()));
  }
  io::sync_folder(path.parent_path());
}

void read_model(const std::filesystem::path& path, const ReadOptions& options, const Model& model,
                Weights& weights, Tells tells) {
  const WeightSource source(path, options.key_map);
  Reader reader(source, options.reset);
  weights.for_each_parameter([&](const ArenaEntry& entry, std::span<float> values) {
    reader.read(names_of(model, entry), entry.shape, io::DType::f32,
                std::as_writable_bytes(weights.first_on_host ? values : std::span<float>()));
  });
  for_each_buffer(model, weights, [&](const BufferSpec& spec, std::span<std::byte> bytes) {
    reader.read({spec.name}, spec.shape, spec.dtype, bytes);
  });
  std::vector<std::string> faults = reader.misfits;
  std::vector<std::string> loose = reader.missing;
  const std::vector<std::string> unexpected = reader.unexpected();
  loose.insert(loose.end(), unexpected.begin(), unexpected.end());
  if (options.strict) faults.insert(faults.end(), loose.begin(), loose.end());
  const std::string summary =
      fmt::format("{}: {} tensors match, {} missing, {} not in the model, {} misfit", path.string(),
                  reader.matched, reader.missing.size(), unexpected.size(), reader.misfits.size());
  if (!faults.empty()) {
    throw io::Error(io::ErrorKind::checkpoint,
                    fmt::format("{}\n  {}\nRename with model.key_map, leave parameters to chance "
                                "with model.reset, or take what fits with model.strict = false",
                                summary, listed(faults)));
  }
  if (reader.matched == 0) {
    throw io::Error(
        io::ErrorKind::checkpoint,
        fmt::format("{}: no tensor has a name of the model\n  {}", path.string(), listed(loose)));
  }
  if (tells == Tells::yes && !loose.empty()) {
    io::log_warning(fmt::format("{}\n  {}", summary, listed(loose)));
  }
}

}  // namespace hadal::engine
