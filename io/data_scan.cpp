#include "io/data_scan.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/heap_objects.hpp"
#include "io/open_files.hpp"
#include "io/stored_rows.hpp"

namespace hadal::io {
namespace {

constexpr std::int64_t kProbeBytes = 64 << 10;

// The same for what a reference leads to; the library is no way out there.
void verify_bytes(const Hdf5File& opened, const RawFile& raw, const StoredDataset& stored,
                  std::int64_t row, std::span<const std::byte> reference) {
  RecycledBytes memory;
  const HeapReference wanted{reference, raw.fd(), &raw.path(), stored.heap_base};
  const std::span<const std::byte> found = read_heap_objects({&wanted, 1}, memory).front();
  if (std::ranges::equal(found, opened.read_bytes(stored, row))) return;
  throw Error(ErrorKind::data, fmt::format("{}:{} row {} read past the HDF5 library has other "
                                           "bytes; repack the file",
                                           raw.path(), stored.path, row));
}

// Whether reading past the library gives what the library gives, for a few rows: it is the only
// reader of HDF5's own structures, but not of what they point to.
void verify_extents(const Hdf5File& opened, const RawFile& file, StoredDataset& stored) {
  Extents& extents = stored.extents;
  if (!extents.past_library() || !opened.can_decode(stored)) return;
  std::optional<RawFile> other;
  if (!extents.file.empty()) other.emplace(extents.file);
  const RawFile& raw = other ? *other : file;
  const auto bytes = static_cast<std::size_t>(stored.row_bytes());
  std::vector<std::byte> ours(bytes), theirs(bytes);
  for (const std::int64_t row : {std::int64_t{0}, stored.rows() / 3 * 2}) {
    if (row >= stored.rows()) return;
    StoredRows rows(stored, raw, row, 1, ours);
    std::vector<std::byte> memory(static_cast<std::size_t>(rows.raw_bytes()));
    std::vector<RawRead> reads;
    rows.add_reads(memory, reads);
    read_all(std::move(reads));
    rows.finish();
    if (stored.is_heap) {
      verify_bytes(opened, raw, stored, row, ours);
      continue;
    }
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
    part.listed = scan.listed;
    if (!part.fault.empty()) return {std::move(part)};
    if (source.is_one_row && part.stored.extents.past_library()) {
      make_one_row(part.stored, part.file);
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

// "/run*@energy" as "/run*" and "energy"; of the file itself "/@energy".
std::pair<std::string, std::string> split_attribute(const std::string& path) {
  const std::size_t at = path.rfind('@');
  if (at == std::string::npos) return {path, ""};
  const std::string object = path.substr(0, at);
  return {object.size() > 1 && object.ends_with('/') ? object.substr(0, at - 1) : object,
          path.substr(at + 1)};
}

// The objects that a path names.
std::vector<std::string> objects_of(const Hdf5File& opened, const std::string& file,
                                    const std::string& path) {
  if (path.find('*') == std::string::npos) return {path};
  std::vector<std::string> names = opened.matching(path);
  if (names.empty()) {
    throw Error(ErrorKind::data, fmt::format("{} has nothing that matches {}", file, path));
  }
  return names;
}

// Has the library look at a few rows. Where they differ it must read them all.
void verify_scan(const Hdf5File& opened, const RawFile& file, const DatasetQuery& query,
                 const std::string& object, ScannedDataset& scan) {
  StoredDataset& stored = scan.stored;
  if (stored.extents.storage == Extents::Storage::memory || stored.rows() == 0) return;
  const std::string where = fmt::format("{}:{}", scan.file, object);
  std::vector<StoredDataset> views{query.one_sample ? opened.describe(object) : stored};
  if (query.series) {
    views = {series_of(stored, 0, where), series_of(stored, stored.rows() - 1, where)};
  }
  for (StoredDataset& view : views) {
    verify_extents(opened, file, view);
    if (view.extents.storage == stored.extents.storage) continue;
    if (query.one_sample) make_one_row(view, where);  // says why not
    stored.extents.reason = view.extents.reason;
    stored.extents.storage = view.extents.storage;
    return;
  }
}

// What a query sees of a dataset.
std::vector<ScannedDataset> seen_as(const Hdf5File& opened, const DatasetQuery& query,
                                    ScannedDataset scan) {
  const std::string where = fmt::format("{}:{}", scan.file, scan.stored.path);
  const std::string& bounds = query.offsets.empty() ? query.lengths : query.offsets;
  std::vector<ScannedDataset> seen;
  if (query.series) {
    for (std::int64_t s = scan.first_row; s < scan.first_row + scan.rows; ++s) {
      ScannedDataset& one = seen.emplace_back(scan);
      one.stored = series_of(scan.stored, s, where);
      one.first_row = 0;
      one.rows = one.stored.rows();
    }
    return seen;
  }
  if (!bounds.empty()) {
    scan.bounds = read_bounds(opened, bounds, !query.lengths.empty(), scan.stored.rows(),
                              fmt::format("{}:{}", scan.file, bounds));
    scan.rows = std::ssize(*scan.bounds) - 1;
  }
  seen.push_back(std::move(scan));
  return seen;
}

std::vector<ScannedDataset> scan_query(const Hdf5File& opened, const RawFile& file,
                                       const ScannedDataset& like, const DatasetQuery& query) {
  std::vector<ScannedDataset> found;
  // A dataset may be called so.
  const bool is_name = std::ranges::binary_search(opened.datasets(), query.path);
  const auto [path, attribute] =
      is_name ? std::pair(query.path, std::string()) : split_attribute(query.path);
  const std::vector<std::string> objects =
      is_name ? std::vector{path} : objects_of(opened, like.file, path);
  const bool is_ragged = !(query.offsets + query.lengths).empty();
  if (is_ragged && (!attribute.empty() || objects.size() != 1)) {
    throw Error(ErrorKind::data,
                fmt::format("{}: offsets and lengths need one dataset", query.path));
  }
  if (!attribute.empty()) {
    ScannedDataset& scan = found.emplace_back(like);
    scan.stored = opened.describe_attribute(objects, attribute);
    scan.stored.path = query.path;
    scan.rows = scan.stored.rows();
    return found;
  }
  for (const std::string& object : objects) {
    ScannedDataset scan = like;
    scan.stored = opened.describe(
        object, query.one_sample ? Hdf5File::Rows::are_one_sample : Hdf5File::Rows::are_samples);
    scan.rows = scan.stored.rows();
    // Of many that are alike, the first and the last.
    const bool looks = objects.size() < 3 || object == objects.front() || object == objects.back();
    if (looks) verify_scan(opened, file, query, object, scan);
    std::vector<ScannedDataset> parts = made_of(std::move(scan));
    if (parts.size() > 1 && is_ragged) {
      throw Error(ErrorKind::data,
                  fmt::format("{}:{} is made of several datasets; offsets and lengths need one",
                              like.file, query.path));
    }
    for (ScannedDataset& part : parts) {
      if (!part.fault.empty()) return {std::move(part)};
      for (ScannedDataset& seen : seen_as(opened, query, std::move(part))) {
        found.push_back(std::move(seen));
      }
    }
  }
  return found;
}

}  // namespace

FileState state_of(const RawFile& file) {
  struct stat status {};
  if (::fstat(file.fd(), &status) != 0) {
    throw system_error(ErrorKind::storage, "cannot look at", file.path(), errno);
  }
  FileState state;
  state.bytes = status.st_size;
  state.changed = std::int64_t{1'000'000'000} * status.st_mtim.tv_sec + status.st_mtim.tv_nsec;
  std::vector<std::byte> probe(static_cast<std::size_t>(std::min(state.bytes, kProbeBytes)));
  read_at(file.fd(), probe, 0, file.path());
  const std::uint64_t head = hash_bytes(probe, static_cast<std::uint64_t>(state.bytes));
  read_at(file.fd(), probe, state.bytes - std::ssize(probe), file.path());
  state.content_hash = hash_bytes(probe, head);
  return state;
}

std::int64_t ScannedDataset::samples_a_chunk() const {
  if (bounds == nullptr || stored.chunk_rows == 0) return stored.chunk_rows;
  return std::max<std::int64_t>(
      1, stored.chunk_rows * rows / std::max<std::int64_t>(1, stored.rows()));
}

FileScans scan_file(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries) {
  try {
    const RawFile raw(file.string());
    return scan_file(raw, state_of(raw), queries);
  } catch (const Error& error) {
    FileScans found(queries.size());
    for (std::size_t q = 0; q < queries.size(); ++q) {
      ScannedDataset& scan = found[q].emplace_back();
      scan.listed = scan.file = file.string();
      scan.stored.path = queries[q].path;
      scan.fault = error.what();
    }
    return found;
  }
}

FileScans scan_file(const RawFile& file, const FileState& state,
                    const std::vector<DatasetQuery>& queries) {
  ScannedDataset like;
  like.listed = like.file = file.path();
  like.file_bytes = state.bytes;
  like.content_hash = state.content_hash;
  FileScans found(queries.size());
  const auto fail = [&](std::size_t q, const std::string& fault) {
    like.fault = fault;
    like.stored.path = queries[q].path;
    found[q] = {like};
    like.fault.clear();
  };
  try {
    const Hdf5File opened(file.path(), file.fd());
    for (std::size_t q = 0; q < queries.size(); ++q) {
      try {
        found[q] = scan_query(opened, file, like, queries[q]);
      } catch (const Error& error) {
        fail(q, error.what());
      } catch (const std::exception& error) {
        // Out of memory, say: a damaged header promises anything.
        fail(q, fmt::format("{}:{} cannot be used: {}; the file may be damaged", like.file,
                            queries[q].path, error.what()));
      }
    }
  } catch (const std::exception& error) {
    // The index says a fault once, however many fields it hits.
    for (std::size_t q = 0; q < queries.size(); ++q) fail(q, error.what());
  }
  return found;
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
          {"filters", extents.filters},
          {"series", {extents.series, extents.place}}};
  if (extents.values != nullptr) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(extents.values->data());
    json["values"] = nlohmann::json::binary({bytes, bytes + extents.values->size()});
  }
}

static void from_json(const nlohmann::json& json, Extents& extents) {
  extents.storage = static_cast<Extents::Storage>(json.at("storage").get<int>());
  json.at("reason").get_to(extents.reason);
  json.at("file").get_to(extents.file);
  json.at("offset").get_to(extents.offset);
  json.at("chunk").get_to(extents.chunk);
  json.at("filters").get_to(extents.filters);
  json.at("series").at(0).get_to(extents.series);
  json.at("series").at(1).get_to(extents.place);
  if (json.contains("values")) {
    const auto& values = json.at("values").get_binary();
    const auto* begin = reinterpret_cast<const std::byte*>(values.data());
    extents.values = std::make_shared<const std::vector<std::byte>>(begin, begin + values.size());
  }
}

static void to_json(nlohmann::json& json, const ScannedDataset& s) {
  json = {{"listed", s.listed},
          {"file", s.file},
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
          {"heap", {s.stored.is_heap, s.stored.heap_base}},
          {"series", s.stored.series},
          {"extents", s.stored.extents},
          {"file_bytes", s.file_bytes},
          {"content_hash", s.content_hash},
          {"fault", s.fault}};
  if (s.bounds != nullptr) json["bounds"] = *s.bounds;
}

static void from_json(const nlohmann::json& json, ScannedDataset& s) {
  json.at("listed").get_to(s.listed);
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
  json.at("heap").at(0).get_to(s.stored.is_heap);
  json.at("heap").at(1).get_to(s.stored.heap_base);
  json.at("series").get_to(s.stored.series);
  json.at("extents").get_to(s.stored.extents);
  json.at("file_bytes").get_to(s.file_bytes);
  json.at("content_hash").get_to(s.content_hash);
  json.at("fault").get_to(s.fault);
  if (json.contains("bounds")) {
    s.bounds = std::make_shared<const std::vector<std::int64_t>>(
        json.at("bounds").get<std::vector<std::int64_t>>());
  }
}

nlohmann::json packed(const FileScans& scans, std::vector<Extent>& tables) {
  nlohmann::json lengths = nlohmann::json::array();
  for (const std::vector<ScannedDataset>& found : scans) {
    for (const ScannedDataset& scan : found) {
      const std::span<const Extent> table = scan.stored.extents.chunks.all();
      tables.insert(tables.end(), table.begin(), table.end());
      lengths.push_back(table.size());
    }
  }
  return {{"scans", scans}, {"tables", std::move(lengths)}};
}

FileScans unpacked(const nlohmann::json& json, const ChunkTable& tables, std::size_t& next) {
  FileScans scans = json.at("scans").get<FileScans>();
  auto length = json.at("tables").begin();
  for (std::vector<ScannedDataset>& found : scans) {
    for (ScannedDataset& scan : found) {
      const auto count = (length++)->get<std::size_t>();
      scan.stored.extents.chunks = tables.part(next, count);
      next += count;
    }
  }
  return scans;
}

}  // namespace hadal::io
