#include "io/pack.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/hdf5_file.hpp"
#include "io/json.hpp"
#include "io/sample_order.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

namespace fs = std::filesystem;

// What a shard says of what it was made from and how.
constexpr const char* kMark = "hadal_pack";

Error usage(const std::string& message) { return {ErrorKind::usage, message}; }

bool ends_with_one_of(const fs::path& path, const std::vector<std::string>& endings) {
  return std::find(endings.begin(), endings.end(), path.extension().string()) != endings.end();
}

bool holds_sounds(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (ends_with_one_of(entry.path(), {".wav", ".flac", ".ogg", ".WAV"})) return true;
    if (ends_with_one_of(entry.path(), {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"}))
      return false;
  }
  return false;
}

SourceKind kind_of(const PackOptions& options) {
  if (options.kind != SourceKind::automatic) return options.kind;
  const fs::path& first = options.sources.front();
  if (fs::is_directory(first)) {
    return holds_sounds(first) ? SourceKind::audio : SourceKind::images;
  }
  if (ends_with_one_of(first, {".npy", ".npz"})) return SourceKind::arrays;
  if (ends_with_one_of(first, {".h5", ".hdf5", ".mat", ".nc"})) return SourceKind::datasets;
  return SourceKind::table;
}

std::unique_ptr<RowSource> open_source(const PackOptions& options, SourceKind kind) {
  for (const fs::path& source : options.sources) {
    if (!fs::exists(source)) {
      throw Error(ErrorKind::data, fmt::format("{} does not exist", source.string()));
    }
  }
  const bool folder = fs::is_directory(options.sources.front());
  if (folder != (kind == SourceKind::images || kind == SourceKind::audio) ||
      (folder && options.sources.size() > 1)) {
    throw usage(
        "images and sounds come from one folder with a subfolder a class; all else from "
        "files");
  }
  switch (kind) {
    case SourceKind::arrays:
      return open_arrays(options);
    case SourceKind::datasets:
      return open_datasets(options);
    case SourceKind::images:
      return open_images(options);
    case SourceKind::audio:
      return open_audio(options);
    case SourceKind::text:
      return open_text(options);
    default:
      return open_table(options);
  }
}

// --shape for the input.
void set_shape(const PackOptions& options, ShardField& input) {
  if (options.input_shape.empty()) return;
  if (element_count(options.input_shape) != element_count(input.sample_shape)) {
    throw usage(fmt::format("--shape {} holds {} values, a sample has {}",
                            to_string(options.input_shape), element_count(options.input_shape),
                            element_count(input.sample_shape)));
  }
  input.sample_shape = options.input_shape;
}

// One file to be written: its rows of the source, in its order.
struct Shard {
  fs::path path;
  std::vector<std::int64_t> rows;
};

std::vector<Shard> plan_shards(const PackOptions& options, std::int64_t rows, bool shuffled) {
  const auto valid =
      static_cast<std::int64_t>(std::floor(options.valid_fraction * static_cast<double>(rows)));
  const std::int64_t train = rows - valid;
  if (train < options.shards) {
    throw usage(fmt::format("{} training samples do not fill {} shards", train, options.shards));
  }
  const Bijection place(rows, mix(options.seed, 0x7061636bULL));
  // By part; shuffled, in the order of the places that chose the part.
  std::vector<std::int64_t> parts[2];
  parts[0].reserve(static_cast<std::size_t>(train));
  std::vector<std::int64_t> places(static_cast<std::size_t>(rows));
  for (std::int64_t row = 0; row < rows; ++row) {
    places[static_cast<std::size_t>(row)] = place(row);
    parts[places[static_cast<std::size_t>(row)] < valid ? 1 : 0].push_back(row);
  }
  if (shuffled) {
    for (std::vector<std::int64_t>& part : parts) {
      std::sort(part.begin(), part.end(), [&](std::int64_t a, std::int64_t b) {
        return places[static_cast<std::size_t>(a)] < places[static_cast<std::size_t>(b)];
      });
    }
  }
  std::vector<Shard> shards;
  const auto add = [&](const char* name, const std::vector<std::int64_t>& part,
                       std::int64_t count) {
    const std::int64_t all = std::ssize(part);
    for (std::int64_t s = 0; s < count; ++s) {
      shards.push_back({options.output / fmt::format("{}-{:04}.h5", name, s),
                        {part.begin() + all * s / count, part.begin() + all * (s + 1) / count}});
    }
  };
  add("train", parts[0], options.shards);
  if (valid > 0) add("valid", parts[1], 1);
  return shards;
}

// What decides about the bytes of the shards.
std::string mark_of(const PackOptions& options, SourceKind kind,
                    const std::vector<ShardField>& fields, bool shuffled) {
  nlohmann::json mark = {{"kind", static_cast<int>(kind)},
                         {"inputs", options.input_columns},
                         {"targets", options.target_columns},
                         {"audio", {options.sample_rate, options.seconds, options.mels}},
                         {"split", {options.shards, options.valid_fraction, options.seed}},
                         {"shuffled", shuffled},
                         {"filter", static_cast<int>(options.layout.filter)},
                         {"chunk_rows", options.layout.chunk_rows}};
  for (const ShardField& field : fields) {
    mark["fields"].push_back({field.path, name_of(field.dtype), field.sample_shape});
  }
  const auto add = [&](const fs::path& file) {
    std::error_code ignored;
    mark["sources"].push_back({file.string(), fs::file_size(file, ignored),
                               fs::last_write_time(file, ignored).time_since_epoch().count()});
  };
  for (const fs::path& source : options.sources) {
    if (!fs::is_directory(source)) {
      add(source);
      continue;
    }
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(source)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) add(file);
  }
  const std::string text = json_text(mark);
  return fmt::format("{:016x}", hash_bytes(std::as_bytes(std::span(text))));
}

// Shards of an earlier packing would be trained on together with these.
void refuse_others(const PackOptions& options, const std::vector<Shard>& shards) {
  if (!fs::exists(options.output)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(options.output)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".h5") || !(name.starts_with("train-") || name.starts_with("valid-")))
      continue;
    const bool ours = std::any_of(shards.begin(), shards.end(), [&](const Shard& shard) {
      return shard.path.filename() == entry.path().filename();
    });
    if (ours) continue;
    throw usage(
        fmt::format("{} is there from another packing, with other shards; remove it or "
                    "choose another --output",
                    entry.path().string()));
  }
}

bool is_there(const Shard& shard, const std::string& mark) {
  if (!fs::exists(shard.path)) return false;
  try {
    return Hdf5File(shard.path).attribute(kMark) == mark;
  } catch (const Error&) {
    return false;
  }
}

void write_shard(const Shard& shard, RowSource& source, const std::vector<ShardField>& fields,
                 const PackOptions& options, const std::string& mark) {
  Hdf5ShardWriter writer(shard.path, fields, std::ssize(shard.rows), options.layout);
  writer.set_attribute(kMark, mark);
  const std::vector<std::string> classes = source.class_names();
  if (!classes.empty()) writer.set_attribute("class_names", json_text(nlohmann::json(classes)));
  std::vector<std::vector<std::byte>> bytes;
  for (const ShardField& field : fields) {
    bytes.emplace_back(static_cast<std::size_t>(field.row_bytes()));
  }
  const std::vector<std::span<std::byte>> places(bytes.begin(), bytes.end());
  const std::vector<std::span<const std::byte>> row(bytes.begin(), bytes.end());
  for (const std::int64_t number : shard.rows) {
    source.read(number, places);
    writer.append(row);
  }
  writer.close();
}

}  // namespace

PackResult pack(const PackOptions& options, const PackShare& share) {
  const SourceKind kind = kind_of(options);
  const std::unique_ptr<RowSource> source = open_source(options, kind);
  std::vector<ShardField> fields = source->fields();
  set_shape(options, fields.front());
  const bool shuffled = options.order == RowOrder::shuffled ||
                        (options.order == RowOrder::automatic && !source->class_names().empty());
  const std::vector<Shard> shards = plan_shards(options, source->rows(), shuffled);
  refuse_others(options, shards);
  create_folders(options.output);
  const std::string mark = mark_of(options, kind, fields, shuffled);
  PackResult result{.classes = source->class_names()};
  // Neighbours to one rank: sources are read once from front to back.
  const auto count = std::ssize(shards);
  const std::int64_t begin = count * share.rank / share.ranks;
  const std::int64_t end = count * (share.rank + 1) / share.ranks;
  for (std::int64_t s = 0; s < count; ++s) {
    const Shard& shard = shards[static_cast<std::size_t>(s)];
    const bool trains = shard.path.filename().string().starts_with("train");
    (trains ? result.train_samples : result.valid_samples) += std::ssize(shard.rows);
    if (s < begin || s >= end) continue;
    PackedFile file{.path = shard.path, .rows = std::ssize(shard.rows)};
    file.kept = is_there(shard, mark);
    if (!file.kept) write_shard(shard, *source, fields, options, mark);
    file.bytes = static_cast<std::int64_t>(fs::file_size(shard.path));
    file.checksum = file_checksum(shard.path);
    result.files.push_back(std::move(file));
  }
  return result;
}

void write_pack_list(const fs::path& folder, const PackResult& all) {
  nlohmann::ordered_json list = {{"classes", all.classes}};
  for (const PackedFile& file : all.files) {
    list["files"].push_back({{"name", file.path.filename().string()},
                             {"rows", file.rows},
                             {"bytes", file.bytes},
                             {"xxh3", file.checksum}});
  }
  write_file_atomically(folder / kPackList, json_text(list, 1) + "\n");
}

}  // namespace hadal::io
