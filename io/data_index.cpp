#include "io/data_index.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "io/atomic_file.hpp"
#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/open_files.hpp"
#include "io/stored_rows.hpp"

namespace hadal::io {
namespace {

constexpr std::int64_t kProbeBytes = 64 << 10;

std::uint64_t content_hash(const std::filesystem::path& file, std::int64_t bytes) {
  const UniqueFd fd = open_for_reading(file);
  std::vector<std::byte> probe(static_cast<std::size_t>(std::min(bytes, kProbeBytes)));
  read_at(fd.get(), probe, 0, file);
  const std::uint64_t head = hash_bytes(probe, static_cast<std::uint64_t>(bytes));
  read_at(fd.get(), probe, bytes - static_cast<std::int64_t>(probe.size()), file);
  return hash_bytes(probe, head);
}

// Stored [H, W, C] as [C, H, W] where the layout says so.
Shape batch_shape(const FieldOptions& options, const Shape& stored) {
  if (options.one_hot) return {};
  if (!options.layout.ends_with('C')) return stored;
  Shape shape{stored.back()};
  shape.insert(shape.end(), stored.begin(), stored.end() - 1);
  return shape;
}

void check_field(const FieldIndex& field, std::vector<std::string>& faults) {
  const FieldOptions& options = field.options;
  const std::string where = fmt::format("field \"{}\" ({})", options.name, options.path);
  if (!options.layout.empty() && options.layout.size() != field.stored_shape.size() + 1) {
    faults.push_back(fmt::format("{}: layout {} needs samples with {} axes, they have the shape {}",
                                 where, options.layout, options.layout.size() - 1,
                                 to_string(field.stored_shape)));
  }
  const bool is_scalar = options.role == FieldRole::weight || options.role == FieldRole::id;
  if (is_scalar && element_count(field.sample_shape) != 1) {
    faults.push_back(fmt::format("{}: one number a sample is needed, they have the shape {}", where,
                                 to_string(field.stored_shape)));
  }
  if (options.one_hot && field.stored_shape.size() != 1) {
    faults.push_back(fmt::format("{}: one_hot needs samples of shape [classes], they have {}",
                                 where, to_string(field.stored_shape)));
  }
  for (const auto* list : {&options.mean, &options.std}) {
    const auto count = static_cast<std::int64_t>(list->size());
    if (count <= 1) continue;
    if (field.sample_shape.empty() || field.sample_shape.front() != count) {
      faults.push_back(fmt::format("{}: {} values of {} for samples of shape {}", where, count,
                                   list == &options.mean ? "mean" : "std",
                                   to_string(field.sample_shape)));
    }
  }
}

// The extent of a sample's scores that its labels do not have: the first one, else the last.
std::int64_t classes_among(const Shape& scores, const Shape& labels) {
  if (scores.size() != labels.size() + 1) return 0;
  const auto fits = [&](std::size_t axis) {
    for (std::size_t d = 0; d < labels.size(); ++d) {
      const std::int64_t extent = scores[d < axis ? d : d + 1];
      if (extent >= 0 && extent != labels[d]) return false;
    }
    return true;
  };
  for (const std::size_t axis : {std::size_t{0}, scores.size() - 1}) {
    if (fits(axis)) return std::max<std::int64_t>(scores[axis], 0);
  }
  return 0;
}

FieldIndex index_field(const FieldOptions& options, const std::vector<ScannedDataset>& scans,
                       std::vector<std::string>& faults, std::vector<std::string>& notes) {
  FieldIndex field;
  field.options = options;
  field.row_starts.push_back(0);
  for (const ScannedDataset& scan : scans) {
    if (!scan.fault.empty()) {
      faults.push_back(scan.fault);
      continue;
    }
    if (scan.rows == 0) {
      notes.push_back(fmt::format("{}:{} has no rows", scan.file, options.path));
      continue;
    }
    if (field.parts.empty()) {
      field.stored_shape = scan.stored.sample_shape();
      field.stored_dtype = scan.stored.dtype;
    } else if (scan.stored.sample_shape() != field.stored_shape) {
      faults.push_back(fmt::format("{}:{} has samples of shape {}, {} has {}", scan.file,
                                   options.path, to_string(scan.stored.sample_shape()),
                                   field.parts.front().file, to_string(field.stored_shape)));
    }
    const std::string& reason = scan.stored.extents.reason;
    if (!reason.empty()) {
      notes.push_back(fmt::format("{} is read by the HDF5 library, by one thread at a time: {}",
                                  options.path, reason));
    }
    field.parts.push_back(scan);
    field.row_starts.push_back(field.row_starts.back() + scan.rows);
  }
  if (field.parts.empty()) return field;
  field.sample_shape = batch_shape(options, field.stored_shape);
  if (!options.scores.empty()) {
    field.options.classes = classes_among(options.scores, field.sample_shape);
  }
  check_field(field, faults);
  if (!always_exact(field.stored_dtype, options.dtype)) {
    notes.push_back(fmt::format("{} is stored as {} and rounded to {}", options.path,
                                name_of(field.stored_dtype), name_of(options.dtype)));
  } else if (field.stored_dtype == DType::u8 && options.role == FieldRole::input &&
             options.dtype == DType::f32 && !options.scale) {
    notes.push_back(
        fmt::format("{} is stored as uint8 and taken as 0 to 255; set scale = 0.00392157 "
                    "in data.inputs.{} for 0 to 1",
                    options.path, options.name));
  }
  return field;
}

// Whether reading past the library gives what the library gives, for a few rows: it is the only
// reader of HDF5's own structures, but not of what they point to.
void verify_extents(const Hdf5File& opened, const std::string& file, StoredDataset& stored) {
  Extents& extents = stored.extents;
  if (!extents.past_library() || !opened.can_decode(stored)) return;
  const RawFile raw(extents.file.empty() ? file : extents.file);
  const auto bytes = static_cast<std::size_t>(stored.row_bytes());
  std::vector<std::byte> ours(bytes), theirs(bytes);
  for (const std::int64_t row : {std::int64_t{0}, stored.rows() / 3 * 2}) {
    StoredRows rows(stored, raw.path(), raw.fd(), row, 1, ours);
    std::vector<std::byte> memory(static_cast<std::size_t>(rows.raw_bytes()));
    std::vector<RawRead> reads;
    rows.add_reads(memory, reads);
    read_all(std::move(reads));
    rows.finish();
    opened.read_rows(stored, row, 1, theirs);
    if (ours == theirs) continue;
    extents.storage = Extents::Storage::library;
    extents.reason = fmt::format("row {} read past the library has other bytes", row);
    return;
  }
}

// The rows of sources in place of the virtual dataset that shows them. Sources of another type are
// left to the library, which converts them to the virtual one's.
std::vector<ScannedDataset> made_of(ScannedDataset scan) {
  if (scan.stored.sources.empty()) return {std::move(scan)};
  std::vector<ScannedDataset> parts;
  for (const VirtualSource& source : scan.stored.sources) {
    std::vector<ScannedDataset> found = scan_file(source.file, {source.dataset}).front();
    ScannedDataset& part = found.front();
    if (!part.fault.empty()) return {std::move(part)};
    if (source.is_one_row) {
      StoredDataset& stored = part.stored;
      stored.shape.insert(stored.shape.begin(), 1);
      ++stored.record_axes;
      if (stored.extents.storage == Extents::Storage::chunked) {
        stored.extents.chunk.insert(stored.extents.chunk.begin(), 1);
        stored.chunk_rows = 1;
      }
    }
    const bool same = found.size() == 1 && part.stored.dtype == scan.stored.dtype &&
                      part.stored.extents.past_library() &&
                      part.stored.sample_shape() == scan.stored.sample_shape();
    if (!same) {
      scan.stored.extents.reason = "its sources are of another type or virtual themselves";
      return {std::move(scan)};
    }
    part.first_row = source.first_row;
    part.rows = source.rows;
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace

std::vector<std::vector<ScannedDataset>> scan_file(const std::filesystem::path& file,
                                                   const std::vector<std::string>& datasets) {
  std::vector<ScannedDataset> found(datasets.size());
  for (ScannedDataset& scan : found) scan.file = file.string();
  for (std::size_t i = 0; i < datasets.size(); ++i) found[i].stored.path = datasets[i];
  try {
    const Hdf5File opened(file);
    const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(file));
    const std::uint64_t hash = content_hash(file, bytes);
    for (std::size_t i = 0; i < datasets.size(); ++i) {
      found[i].file_bytes = bytes;
      found[i].content_hash = hash;
      try {
        found[i].stored = opened.describe(datasets[i]);
        found[i].rows = found[i].stored.rows();
        verify_extents(opened, file.string(), found[i].stored);
      } catch (const Error& error) {
        found[i].fault = error.what();
      }
    }
  } catch (const std::exception& error) {
    // The index says a fault once, however many fields it hits.
    for (ScannedDataset& scan : found) scan.fault = error.what();
  }
  std::vector<std::vector<ScannedDataset>> parts;
  for (ScannedDataset& scan : found) parts.push_back(made_of(std::move(scan)));
  return parts;
}

static void to_json(nlohmann::json& json, const ChunkFilter& filter) {
  json = {filter.id, filter.values};
}

static void from_json(const nlohmann::json& json, ChunkFilter& filter) {
  json.at(0).get_to(filter.id);
  json.at(1).get_to(filter.values);
}

static void to_json(nlohmann::json& json, const Extents& extents) {
  json = {{"storage", static_cast<int>(extents.storage)},
          {"reason", extents.reason},
          {"file", extents.file},
          {"offset", extents.offset},
          {"chunk", extents.chunk},
          {"filters", extents.filters}};
  if (extents.chunks == nullptr) return;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(extents.chunks->data());
  json["chunks"] = nlohmann::json::binary({bytes, bytes + extents.chunks->size() * sizeof(Extent)});
}

static void from_json(const nlohmann::json& json, Extents& extents) {
  extents.storage = static_cast<Extents::Storage>(json.at("storage").get<int>());
  json.at("reason").get_to(extents.reason);
  json.at("file").get_to(extents.file);
  json.at("offset").get_to(extents.offset);
  json.at("chunk").get_to(extents.chunk);
  json.at("filters").get_to(extents.filters);
  if (!json.contains("chunks")) return;
  const auto& bytes = json.at("chunks").get_binary();
  auto chunks = std::make_shared<std::vector<Extent>>(bytes.size() / sizeof(Extent));
  if (!bytes.empty()) std::memcpy(chunks->data(), bytes.data(), bytes.size());
  extents.chunks = std::move(chunks);
}

void to_json(nlohmann::json& json, const ScannedDataset& s) {
  json = {{"file", s.file},
          {"path", s.stored.path},
          {"dataset", s.stored.dataset},
          {"column", s.stored.column},
          {"record", {s.stored.record_bytes, s.stored.record_offset, s.stored.record_axes}},
          {"rows", {s.first_row, s.rows}},
          {"dtype", name_of(s.stored.dtype)},
          {"big_endian", s.stored.big_endian},
          {"shape", s.stored.shape},
          {"chunk_rows", s.stored.chunk_rows},
          {"filters", s.stored.filters},
          {"stored_bytes", s.stored.stored_bytes},
          {"extents", s.stored.extents},
          {"file_bytes", s.file_bytes},
          {"content_hash", s.content_hash},
          {"fault", s.fault}};
}

void from_json(const nlohmann::json& json, ScannedDataset& s) {
  json.at("file").get_to(s.file);
  json.at("path").get_to(s.stored.path);
  json.at("dataset").get_to(s.stored.dataset);
  json.at("column").get_to(s.stored.column);
  json.at("record").at(0).get_to(s.stored.record_bytes);
  json.at("record").at(1).get_to(s.stored.record_offset);
  json.at("record").at(2).get_to(s.stored.record_axes);
  json.at("rows").at(0).get_to(s.first_row);
  json.at("rows").at(1).get_to(s.rows);
  s.stored.dtype = dtype_named(json.at("dtype").get<std::string>()).value();
  json.at("big_endian").get_to(s.stored.big_endian);
  json.at("shape").get_to(s.stored.shape);
  json.at("chunk_rows").get_to(s.stored.chunk_rows);
  json.at("filters").get_to(s.stored.filters);
  json.at("stored_bytes").get_to(s.stored.stored_bytes);
  json.at("extents").get_to(s.stored.extents);
  json.at("file_bytes").get_to(s.file_bytes);
  json.at("content_hash").get_to(s.content_hash);
  json.at("fault").get_to(s.fault);
}

std::size_t FieldIndex::part_of(std::int64_t sample) const {
  const auto after = std::upper_bound(row_starts.begin(), row_starts.end(), sample);
  return static_cast<std::size_t>(after - row_starts.begin()) - 1;
}

std::string FieldIndex::where(std::int64_t sample) const {
  const std::size_t part = part_of(sample);
  return fmt::format("{}:{} row {}", parts[part].file, parts[part].stored.path,
                     parts[part].first_row + sample - row_starts[part]);
}

std::int64_t DataIndex::sample_bytes() const {
  std::int64_t bytes = 0;
  for (const FieldIndex& field : fields) bytes += field.parts.front().stored.row_bytes();
  return bytes;
}

DataIndex build_index(const std::vector<FieldOptions>& fields,
                      const std::vector<std::vector<ScannedDataset>>& scans) {
  DataIndex index;
  std::vector<std::string> faults;
  for (std::size_t f = 0; f < fields.size(); ++f) {
    index.fields.push_back(index_field(fields[f], scans[f], faults, index.notes));
  }
  if (faults.empty()) {
    const FieldIndex& first = index.fields.front();
    index.samples = first.row_starts.back();
    for (const FieldIndex& field : index.fields) {
      if (field.row_starts.back() != index.samples) {
        faults.push_back(fmt::format("field \"{}\" has {} rows, field \"{}\" has {}",
                                     first.options.name, index.samples, field.options.name,
                                     field.row_starts.back()));
        continue;
      }
      const bool same_files = field.options.files == first.options.files;
      for (std::size_t p = 0; same_files && p < field.parts.size() && p < first.parts.size(); ++p) {
        if (field.parts[p].rows == first.parts[p].rows) continue;
        faults.push_back(fmt::format("{} has {} rows of {} and {} of {}", field.parts[p].file,
                                     first.parts[p].rows, first.options.path, field.parts[p].rows,
                                     field.options.path));
      }
    }
    if (faults.empty() && index.samples == 0) faults.push_back("the dataset has no samples");
  }
  if (!faults.empty()) {
    // The same file may serve several fields; say each fault once.
    std::vector<std::string> distinct;
    for (const std::string& fault : faults) {
      if (std::find(distinct.begin(), distinct.end(), fault) == distinct.end())
        distinct.push_back(fault);
    }
    throw Error(
        ErrorKind::data,
        fmt::format(
            "{}{}",
            distinct.size() > 1 ? fmt::format("{} faults in the data:\n  ", distinct.size()) : "",
            fmt::join(distinct, "\n  ")));
  }
  for (const FieldIndex& field : index.fields) {
    for (const ScannedDataset& part : field.parts) {
      const std::string line =
          fmt::format("{}|{}|{}|{}|{}|{}|{}", field.options.name, field.options.path,
                      name_of(part.stored.dtype), to_string(part.stored.shape), part.first_row,
                      part.rows, part.content_hash);
      index.fingerprint = hash_bytes(std::as_bytes(std::span(line)), index.fingerprint);
    }
  }
  return index;
}

}  // namespace hadal::io
