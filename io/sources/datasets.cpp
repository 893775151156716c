#include <fmt/format.h>

#include "io/error.hpp"
#include "io/row_fetcher.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

// All datasets with at least one axis and as many rows as the first.
std::vector<std::string> datasets_of(const std::filesystem::path& file) {
  std::vector<std::string> names;
  const Hdf5File opened(file);
  std::int64_t rows = -1;
  for (const std::string& name : opened.datasets()) {
    try {
      const StoredDataset stored = opened.describe(name);
      if (stored.shape.empty()) continue;
      if (rows < 0) rows = stored.rows();
      if (stored.rows() == rows) names.push_back(name);
    } catch (const Error&) {
      // What is no array of numbers is no field.
    }
  }
  return names;
}

class DatasetSource : public RowSource {
 public:
  DatasetSource(const std::vector<std::string>& names,
                const std::vector<std::filesystem::path>& files)
      : index_(scan(names, files)), fetcher_(index_, std::int64_t{256} << 20) {}

  std::int64_t rows() override { return index_.samples; }
  std::vector<ShardField> fields() const override {
    std::vector<ShardField> fields;
    for (const FieldIndex& field : index_.fields) {
      fields.push_back({field.options.path, field.stored_dtype, field.stored_shape});
    }
    return fields;
  }
  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    const std::vector<std::span<std::byte>> nowhere(fields.size());
    const RowFetcher::Fetched fetched = fetcher_.fetch(std::span(&row, 1), nowhere);
    for (std::size_t f = 0; f < fields.size(); ++f) {
      const std::span<const std::byte> found = fetched.rows[f][0];
      std::copy(found.begin(), found.end(), fields[f].begin());
    }
  }

 private:
  static DataIndex scan(const std::vector<std::string>& names,
                        const std::vector<std::filesystem::path>& files) {
    std::vector<FieldOptions> options;
    for (const std::string& name : names) {
      options.push_back({.name = name, .path = name, .files = {}, .dtype = DType::f32});
    }
    std::vector<std::vector<ScannedDataset>> scans(names.size());
    for (const std::filesystem::path& file : files) {
      std::vector<std::vector<ScannedDataset>> found =
          scan_file(file, {names.begin(), names.end()});
      for (std::size_t f = 0; f < names.size(); ++f) {
        scans[f].insert(scans[f].end(), found[f].begin(), found[f].end());
      }
    }
    DataIndex index = build_index(options, scans);
    for (const FieldIndex& field : index.fields) {
      for (const ScannedDataset& part : field.parts) {
        if (part.stored.dtype == field.stored_dtype) continue;
        throw Error(ErrorKind::data,
                    fmt::format("{}:{} is {}, {} is {}", part.file, part.stored.path,
                                name_of(part.stored.dtype), field.parts.front().file,
                                name_of(field.stored_dtype)));
      }
    }
    return index;
  }

  DataIndex index_;
  RowFetcher fetcher_;
};

}  // namespace

std::unique_ptr<RowSource> open_datasets(const PackOptions& options) {
  std::vector<std::string> names =
      options.datasets.empty() ? datasets_of(options.sources.front()) : options.datasets;
  if (names.empty()) {
    throw Error(ErrorKind::data, fmt::format("{} has no dataset with a row a sample",
                                             options.sources.front().string()));
  }
  for (std::string& name : names) {
    if (!name.starts_with('/')) name = fmt::format("/{}", name);
  }
  return std::make_unique<DatasetSource>(names, options.sources);
}

}  // namespace hadal::io
