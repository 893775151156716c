#pragma once
// What files hold of the datasets that a config names, found before the first step: files are
// scanned by the rank that they are dealt to, and what was found goes to all the others.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "io/dataset_views.hpp"
#include "io/hdf5_file.hpp"
#include "io/open_files.hpp"

namespace hadal::io {

// Which rows of a file a field takes. `path` names a dataset ("/images/x"), a column of a compound
// ("/table:energy"), an attribute ("/run@energy"), or by `*` for a name those of many objects, in
// the order of their names, numbers inside them by their value.
struct DatasetQuery {
  DatasetQuery(std::string named) : path(std::move(named)) {}
  DatasetQuery(const char* named) : path(named) {}
  DatasetQuery(std::string named, bool whole) : path(std::move(named)), one_sample(whole) {}

  std::string path;
  bool operator==(const DatasetQuery&) const = default;

  bool one_sample = false;  // all of a dataset is one sample, not a row of it
  bool series = false;      // a dataset is [series, rows, …]
  // Datasets that tell which rows a sample has, where that differs: where they begin, or how many.
  std::string offsets;
  std::string lengths;
};

// Rows that a dataset gives. `fault` is empty where it can be used.
struct ScannedDataset {
  std::string listed;  // the data file
  std::string file;    // that holds it: of a virtual dataset, another one
  StoredDataset stored;
  std::int64_t first_row = 0;  // of the dataset
  std::int64_t rows = 0;       // or samples, where `bounds` tell the rows of each
  Bounds bounds;
  std::int64_t file_bytes = 0;
  std::uint64_t content_hash = 0;  // of the file's size, first and last 64 KiB: not of its place
  std::string fault;

  // How many samples lie in a chunk, on average; 0 where the dataset is not chunked.
  std::int64_t samples_a_chunk() const;
};

// Of one file, for each query: the datasets that it is made of, of a virtual one its sources.
using FileScans = std::vector<std::vector<ScannedDataset>>;

// What tells whether a file has changed.
struct FileState {
  std::int64_t bytes = 0;
  std::int64_t changed = 0;        // nanoseconds, by the file system's clock
  std::uint64_t content_hash = 0;  // of the size, the first and the last 64 KiB

  bool operator==(const FileState&) const = default;
};

// Throws a storage error.
FileState state_of(const RawFile& file);

// Opens the file once. Never throws for what it contains, nor where it cannot be read.
FileScans scan_file(const std::filesystem::path& file, const std::vector<DatasetQuery>& queries);
// The same of a file that is open.
FileScans scan_file(const RawFile& file, const FileState& state,
                    const std::vector<DatasetQuery>& queries);

// All but the chunk tables, which are large and go their own way: they are put behind `tables`.
nlohmann::json packed(const FileScans& scans, std::vector<Extent>& tables);
// The tables are parts of `tables`, from number `next` on, which is moved behind them.
FileScans unpacked(const nlohmann::json& json, const ChunkTable& tables, std::size_t& next);

}  // namespace hadal::io
