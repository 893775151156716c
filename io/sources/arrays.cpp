#include <fmt/format.h>

#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/npy.hpp"
#include "io/sources/row_source.hpp"
#include "io/zip_archive.hpp"

namespace hadal::io {
namespace {

Error usage(const std::string& message) { return {ErrorKind::usage, message}; }

NpyFile member(const ZipArchive& archive, const std::string& name) {
  const ZipEntry* entry = archive.find(name + ".npy");
  if (entry == nullptr) {
    std::vector<std::string> names;
    for (const auto& [found, ignored] : archive.entries()) {
      names.push_back(found.substr(0, found.rfind(".npy")));
    }
    throw Error(ErrorKind::data,
                fmt::format("{} has no array \"{}\"; --input and --target choose among: {}",
                            archive.name(), name, fmt::join(names, ", ")));
  }
  return {archive.read(*entry), fmt::format("{}:{}", archive.name(), name)};
}

class ArraySource : public RowSource {
 public:
  ArraySource(const PackOptions& options, NpyFile input, NpyFile target)
      : options_(options), input_(std::move(input)), target_(std::move(target)) {
    if (input_.rows() == target_.rows()) return;
    throw Error(ErrorKind::data, fmt::format("{} has {} rows, {} has {}", input_.name(),
                                             input_.rows(), target_.name(), target_.rows()));
  }

  std::int64_t rows() override { return input_.rows(); }
  std::vector<ShardField> fields() const override {
    return {{options_.input_path, options_.input_dtype, sample_shape(input_)},
            {options_.target_path, options_.target_dtype, sample_shape(target_)}};
  }
  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    put(input_, row, options_.input_dtype, fields[0]);
    put(target_, row, options_.target_dtype, fields[1]);
  }

 private:
  static Shape sample_shape(const NpyFile& file) {
    return {file.shape().begin() + 1, file.shape().end()};
  }

  void put(const NpyFile& file, std::int64_t row, DType dtype, std::span<std::byte> out) {
    stored_.resize(static_cast<std::size_t>(file.row_bytes()));
    file.read_row(row, stored_);
    if (const auto fault = convert(stored_, file.dtype(), out, dtype)) {
      throw Error(ErrorKind::data, fmt::format("row {} of {} holds {}, which is no {}", row,
                                               file.name(), fault->value, name_of(dtype)));
    }
  }

  const PackOptions& options_;
  NpyFile input_;
  NpyFile target_;
  std::vector<std::byte> stored_;
};

}  // namespace

std::unique_ptr<RowSource> open_arrays(const PackOptions& options) {
  const bool zipped = options.sources.front().extension() == ".npz";
  if (zipped && options.sources.size() == 1) {
    const ZipArchive archive(options.sources[0], ZipMethods::deflate_too);
    const auto name = [](const std::string& given, const std::string& otherwise) {
      return given.empty() ? otherwise : given;
    };
    NpyFile input = member(archive, name(options.input_columns, "x"));
    NpyFile target = member(archive, name(options.target_columns, "y"));
    return std::make_unique<ArraySource>(options, std::move(input), std::move(target));
  }
  if (zipped) throw usage("one .npz file at a time");
  if (options.sources.size() != 2) {
    throw usage("two .npy files are needed: the inputs, then the targets");
  }
  NpyFile input(options.sources[0]), target(options.sources[1]);
  return std::make_unique<ArraySource>(options, std::move(input), std::move(target));
}

}  // namespace hadal::io
