#pragma once
// What `pack` makes shards of: rows of some source, each the bytes of a few fields.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/pack.hpp"

namespace hadal::io {

class RowSource {
 public:
  virtual ~RowSource() = default;

  virtual std::int64_t rows() = 0;
  // Datasets of the shards, with the source's own types and shapes.
  virtual std::vector<ShardField> fields() const = 0;
  // Row `row`, a span a field. Rows in ascending order cost least. Throws a data error that names
  // the place.
  virtual void read(std::int64_t row, std::span<const std::span<std::byte>> fields) = 0;
  // Names of the classes that labels stand for; none: labels stand for themselves.
  virtual std::vector<std::string> class_names() const { return {}; }
};

std::unique_ptr<RowSource> open_table(const PackOptions& options);
std::unique_ptr<RowSource> open_arrays(const PackOptions& options);
std::unique_ptr<RowSource> open_datasets(const PackOptions& options);
std::unique_ptr<RowSource> open_images(const PackOptions& options);
std::unique_ptr<RowSource> open_audio(const PackOptions& options);
std::unique_ptr<RowSource> open_text(const PackOptions& options);

// Files in the subfolders of a folder, a class a subfolder.
struct ClassFolder {
  std::vector<std::string> classes;  // in the order of their names
  struct File {
    std::filesystem::path path;
    std::int64_t label = 0;
  };
  std::vector<File> files;  // by class, then by name
};

// All files with one of these endings (lower case, with the dot). Throws a data error where there
// are none, and for files that belong to no class.
ClassFolder list_classes(const std::filesystem::path& folder,
                         const std::vector<std::string>& endings);

}  // namespace hadal::io
