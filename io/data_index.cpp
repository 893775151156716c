#include "io/data_index.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "io/augment.hpp"
#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/hashing_file.hpp"
#include "io/mixing.hpp"

namespace hadal::io {
namespace {

// Stored [H, W, C] as [C, H, W] where the layout says so.
Shape batch_shape(const FieldOptions& options, const Shape& stored) {
  if (options.one_hot) return {};
  if (!options.decode.empty()) return {options.channels, options.decode[0], options.decode[1]};
  if (!options.layout.ends_with('C')) return stored;
  Shape shape{stored.back()};
  shape.insert(shape.end(), stored.begin(), stored.end() - 1);
  return shape;
}

void check_field(const FieldIndex& field, std::vector<std::string>& faults) {
  const FieldOptions& options = field.options;
  const std::string where = fmt::format("field \"{}\" ({})", options.name, options.path);
  if (!options.layout.empty() && options.decode.empty() &&
      options.layout.size() != field.stored_shape.size() + 1) {
    faults.push_back(fmt::format("{}: layout {} needs samples with {} axes, they have the shape {}",
                                 where, options.layout, options.layout.size() - 1,
                                 to_string(field.stored_shape)));
  }
  const bool is_scalar = options.role == FieldRole::weight || options.role == FieldRole::id;
  if (options.window_rows > 1 &&
      (options.one_hot || !options.decode.empty() || options.layout.ends_with('C'))) {
    faults.push_back(fmt::format(
        "{}: a window of several rows goes with neither one_hot nor decode nor channels last",
        where));
  }
  for (const ScannedDataset& part : field.parts) {
    if (stored_as(options.pad, part.stored.dtype)) continue;
    faults.push_back(fmt::format("{}: pad = {} is no {}, as {} stores it", where, options.pad,
                                 name_of(part.stored.dtype), part.file));
  }
  const bool is_heap = std::any_of(field.parts.begin(), field.parts.end(),
                                   [](const ScannedDataset& part) { return part.stored.is_heap; });
  if (is_heap && options.decode.empty()) {
    faults.push_back(
        fmt::format("{}: bytes of variable length; if they are JPEG or PNG images, set "
                    "decode = [height, width]",
                    where));
  }
  if (!options.decode.empty() && (field.stored_dtype != DType::u8 ||
                                  field.stored_shape.size() != 1 || options.dtype != DType::f32)) {
    faults.push_back(
        fmt::format("{}: decode needs JPEG or PNG images as bytes, and float32 in the "
                    "batch; a row holds {} of {}",
                    where, name_of(field.stored_dtype), to_string(field.stored_shape)));
  }
  std::string fault;
  augmented_shape(options, field.whole_shape, fault);
  if (!fault.empty()) faults.push_back(fmt::format("{}: {}", where, fault));
  for (const std::int64_t channel : options.log1p) {
    if (!field.whole_shape.empty() && channel < field.whole_shape.front()) continue;
    faults.push_back(fmt::format("{}: log1p of channel {} of samples of shape {}", where, channel,
                                 to_string(field.whole_shape)));
  }
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

// Fields that lie in the same files must have their rows there: equal sums alone would pair rows of
// one file with those of another.
void compare_files(const FieldIndex& first, const FieldIndex& field,
                   std::vector<std::string>& faults) {
  std::map<std::string, std::int64_t> rows;
  for (const ScannedDataset& part : first.parts) rows[part.listed] += part.rows;
  for (const ScannedDataset& part : field.parts) rows[part.listed] -= part.rows;
  for (const auto& [file, more] : rows) {
    if (more == 0) continue;
    faults.push_back(fmt::format("{} has {} {} rows of {} than of {}", file, std::abs(more),
                                 more > 0 ? "more" : "fewer", first.options.path,
                                 field.options.path));
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

// `reach`: rows that a sample needs from its own one on, over all fields. None lie in two datasets.
FieldIndex index_field(const FieldOptions& options, const std::vector<ScannedDataset>& scans,
                       std::int64_t reach, std::vector<std::string>& faults,
                       std::vector<std::string>& notes) {
  FieldIndex field;
  field.options = options;
  field.row_starts.push_back(0);
  for (const ScannedDataset& scan : scans) {
    if (!scan.fault.empty()) {
      faults.push_back(scan.fault);
      continue;
    }
    if (scan.rows < reach) {
      notes.push_back(scan.rows == 0 ? fmt::format("{}:{} has no rows", scan.file, options.path)
                                     : fmt::format("{}:{} has {} rows, a sample needs {}",
                                                   scan.file, options.path, scan.rows, reach));
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
    ScannedDataset& part = field.parts.emplace_back(scan);
    if (!options.is_ragged()) part.first_row += options.window_first;
    part.rows -= reach - 1;
    field.row_starts.push_back(field.row_starts.back() + part.rows);
  }
  if (field.parts.empty()) return field;
  if (options.window_rows > 1) {
    field.stored_shape.insert(field.stored_shape.begin(), options.window_rows);
  }
  field.whole_shape = batch_shape(options, field.stored_shape);
  std::string fault;  // said by check_field
  field.sample_shape = augmented_shape(options, field.whole_shape, fault);
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

}  // namespace

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
  for (const FieldIndex& field : fields) bytes += field.sample_bytes(field.parts.front());
  return bytes;
}

DataIndex build_index(const std::vector<FieldOptions>& fields,
                      const std::vector<std::vector<ScannedDataset>>& scans) {
  DataIndex index;
  std::vector<std::string> faults;
  std::int64_t reach = 1;
  for (const FieldOptions& field : fields) {
    if (field.is_ragged()) continue;
    reach = std::max(reach, field.window_first + std::max<std::int64_t>(1, field.window_rows));
  }
  for (std::size_t f = 0; f < fields.size(); ++f) {
    index.fields.push_back(index_field(fields[f], scans[f], reach, faults, index.notes));
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
      if (field.options.files == first.options.files) compare_files(first, field, faults);
    }
    if (faults.empty() && index.samples == 0) faults.push_back("the dataset has no samples");
    if (const std::string fault = mixing_fault(index); !fault.empty()) faults.push_back(fault);
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
