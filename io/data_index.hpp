#pragma once
// The index of a dataset: which rows of which datasets of which files make a sample. Files are
// scanned before the first step (shared over the ranks by the caller), all faults are collected,
// and only a faultless scan becomes an index.

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/data_scan.hpp"
#include "io/dtype.hpp"
#include "io/transform.hpp"

namespace hadal::io {

enum class FieldRole { input, target, weight, id };

// How one named tensor of a sample is stored and what it becomes. Applied in this order: decode the
// image, convert to `dtype`, layout to channels first, log(1 + x) of the channels in `log1p`, times
// `scale`, minus `mean`, over `std` (per channel or one for all), `augment`.
struct FieldOptions {
  std::string name;
  FieldRole role = FieldRole::input;
  std::string path;         // dataset inside the file (see DatasetQuery)
  bool one_sample = false;  // all of a dataset is one sample
  bool series = false;      // a dataset is [series, rows, …]
  std::string offsets;      // datasets that tell which rows a sample has (see DatasetQuery)
  std::string lengths;
  double pad = 0;                  // as stored: behind the last row of a sample that has too few
  std::vector<std::string> files;  // where it is not in the split's own files
  // A sample is so many rows, [rows, …], from so many behind its own (or behind its first, where it
  // has several); 0: its own row.
  std::int64_t window_first = 0;
  std::int64_t window_rows = 0;
  DType dtype = DType::f32;  // float32 or int64
  // Rows are JPEG or PNG images: what they become, [height, width] and 1 or 3 channels.
  Shape decode;
  std::int64_t channels = 3;
  std::string layout;  // of a stored sample's batch: "NHWC", "NDHWC"; "" keeps the order
  std::vector<std::int64_t> log1p;  // channels
  std::optional<double> scale;
  std::vector<double> mean;
  std::vector<double> std;
  bool measures_mean = false;  // they come from the training data, before any sample is read
  bool measures_std = false;
  std::vector<Transform> augment;
  bool one_hot = false;      // stored one-hot, becomes the class index
  std::int64_t classes = 0;  // > 0: values must lie in [0, classes) or equal ignore_index
  // The scores that the model gives for a sample, [classes, …] or […, classes]: the number of
  // classes follows from it and the shape of the labels. -1 for an extent that is not known.
  Shape scores;
  std::int64_t ignore_index = -100;

  bool is_ragged() const { return !offsets.empty() || !lengths.empty(); }
  bool operator==(const FieldOptions&) const = default;
};

// One field over all its files, in file order.
struct FieldIndex {
  FieldOptions options;
  std::vector<ScannedDataset> parts;     // parts without rows are left out
  std::vector<std::int64_t> row_starts;  // first sample of each part, then the total
  Shape stored_shape;                    // of one sample, as stored
  Shape whole_shape;                     // of one sample in a batch's layout, before transforms
  Shape sample_shape;                    // of one sample, as the batch holds it
  DType stored_dtype = DType::f32;       // the first part's; others may differ

  // Rows of a sample, and their bytes as stored in a part.
  std::int64_t rows_of_sample() const { return std::max<std::int64_t>(1, options.window_rows); }
  std::int64_t sample_bytes(const ScannedDataset& part) const {
    return rows_of_sample() * part.stored.row_bytes();
  }

  // Which part holds a sample.
  std::size_t part_of(std::int64_t sample) const;
  // "file:/path row n"
  std::string where(std::int64_t sample) const;
};

struct DataIndex {
  std::vector<FieldIndex> fields;  // inputs first, in the order of the options
  std::int64_t samples = 0;
  std::uint64_t fingerprint = 0;  // of contents and mapping
  std::vector<std::string> notes;
  std::map<std::string, std::string> staged;  // files that are read from a copy of theirs

  // Bytes of one sample as stored, over all fields.
  std::int64_t sample_bytes() const;
};

// Joins the scans of all fields (`scans[f]`: field f's files in order). Throws a data error that
// lists every fault: unusable files, shapes that differ, fields of different length, no samples at
// all.
DataIndex build_index(const std::vector<FieldOptions>& fields,
                      const std::vector<std::vector<ScannedDataset>>& scans);

}  // namespace hadal::io
