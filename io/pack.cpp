#include "io/pack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>

#include "io/atomic_file.hpp"
#include "io/convert.hpp"
#include "io/delimited_text.hpp"
#include "io/error.hpp"
#include "io/hdf5_writer.hpp"
#include "io/nearest.hpp"
#include "io/npy.hpp"
#include "io/sample_order.hpp"

namespace hadal::io {
namespace {

Error usage(const std::string& message) { return {ErrorKind::usage, message}; }

// Rows of a source, one after the other, as the bytes of an input and a target.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual std::int64_t rows() = 0;
  virtual Shape input_shape() const = 0;
  virtual Shape target_shape() const = 0;
  virtual void next(std::span<std::byte> input, std::span<std::byte> target) = 0;
};

std::vector<std::size_t> select_columns(const std::string& text,
                                        const std::vector<std::string>& columns,
                                        const std::string& option) {
  if (text.empty()) throw usage(fmt::format("{} is needed for a table", option));
  std::vector<std::size_t> chosen;
  const auto add = [&](std::size_t first, std::size_t last) {
    if (last >= columns.size() || first > last) {
      throw usage(fmt::format("{} \"{}\": the table has the columns 0 to {}", option, text,
                              columns.size() - 1));
    }
    for (std::size_t c = first; c <= last; ++c) chosen.push_back(c);
  };
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    const auto named = std::find(columns.begin(), columns.end(), item);
    if (named != columns.end()) {
      const auto index = static_cast<std::size_t>(named - columns.begin());
      add(index, index);
      continue;
    }
    std::size_t first = 0, last = 0;
    const char* const end = item.data() + item.size();
    auto parsed = std::from_chars(item.data(), end, first);
    last = first;
    bool good = parsed.ec == std::errc{};
    if (good && parsed.ptr != end && *parsed.ptr == '-') {
      parsed = std::from_chars(parsed.ptr + 1, end, last);
      good = parsed.ec == std::errc{};
    }
    if (!good || parsed.ptr != end) {
      const std::string near = nearest(item, columns);
      throw usage(fmt::format("{}: \"{}\" is no column{}", option, item,
                              near.empty() ? "" : fmt::format("; did you mean {}?", near)));
    }
    add(first, last);
  }
  return chosen;
}

class TableSource : public RowSource {
 public:
  TableSource(const PackOptions& options)
      : table_(options.sources.front(), options.delimiter),
        input_dtype_(options.input_dtype),
        target_dtype_(options.target_dtype),
        inputs_(select_columns(options.input_columns, table_.columns(), "--input")),
        targets_(select_columns(options.target_columns, table_.columns(), "--target")) {}

  std::int64_t rows() override {
    std::int64_t count = 0;
    while (table_.next(fields_)) ++count;
    table_.rewind();
    return count;
  }
  Shape input_shape() const override { return {static_cast<std::int64_t>(inputs_.size())}; }
  Shape target_shape() const override {
    return targets_.size() == 1 ? Shape{} : Shape{static_cast<std::int64_t>(targets_.size())};
  }
  void next(std::span<std::byte> input, std::span<std::byte> target) override {
    table_.next(fields_);
    put(inputs_, input_dtype_, input);
    put(targets_, target_dtype_, target);
  }

 private:
  void put(const std::vector<std::size_t>& columns, DType dtype, std::span<std::byte> out) {
    const auto bytes = static_cast<std::size_t>(size_bytes(dtype));
    for (std::size_t i = 0; i < columns.size(); ++i) {
      const std::string_view text = fields_[columns[i]];
      if (!parse(text, dtype, out.subspan(i * bytes, bytes))) {
        throw Error(ErrorKind::data,
                    fmt::format("{}: column {} holds \"{}\", which is no {}", table_.where(),
                                table_.columns()[columns[i]], text, name_of(dtype)));
      }
    }
  }

  static bool parse(std::string_view text, DType dtype, std::span<std::byte> out) {
    const char* const end = text.data() + text.size();
    std::int64_t whole = 0;
    if (const auto got = std::from_chars(text.data(), end, whole);
        got.ec == std::errc{} && got.ptr == end) {
      return !convert(std::as_bytes(std::span(&whole, 1)), DType::i64, out, dtype);
    }
    double value = 0;
    const auto got = std::from_chars(text.data(), end, value);
    return got.ec == std::errc{} && got.ptr == end && std::isfinite(value) &&
           !convert(std::as_bytes(std::span(&value, 1)), DType::f64, out, dtype);
  }

  DelimitedText table_;
  DType input_dtype_;
  DType target_dtype_;
  std::vector<std::size_t> inputs_;
  std::vector<std::size_t> targets_;
  std::vector<std::string_view> fields_;
};

class NpySource : public RowSource {
 public:
  NpySource(const PackOptions& options)
      : input_(options.sources[0]),
        target_(options.sources[1]),
        input_dtype_(options.input_dtype),
        target_dtype_(options.target_dtype) {
    if (input_.rows() != target_.rows()) {
      throw Error(ErrorKind::data,
                  fmt::format("{} has {} rows, {} has {}", options.sources[0].string(),
                              input_.rows(), options.sources[1].string(), target_.rows()));
    }
  }
  std::int64_t rows() override { return input_.rows(); }
  Shape input_shape() const override { return {input_.shape().begin() + 1, input_.shape().end()}; }
  Shape target_shape() const override {
    return {target_.shape().begin() + 1, target_.shape().end()};
  }
  void next(std::span<std::byte> input, std::span<std::byte> target) override {
    put(input_, input_dtype_, input, "input");
    put(target_, target_dtype_, target, "target");
    ++row_;
  }

 private:
  void put(const NpyFile& file, DType dtype, std::span<std::byte> out, const char* what) {
    stored_.resize(static_cast<std::size_t>(file.row_bytes()));
    file.read_row(row_, stored_);
    if (const auto fault = convert(stored_, file.dtype(), out, dtype)) {
      throw Error(ErrorKind::data, fmt::format("row {} of the {} holds {}, which is no {}", row_,
                                               what, fault->value, name_of(dtype)));
    }
  }

  NpyFile input_;
  NpyFile target_;
  DType input_dtype_;
  DType target_dtype_;
  std::int64_t row_ = 0;
  std::vector<std::byte> stored_;
};

std::unique_ptr<RowSource> open_source(const PackOptions& options) {
  const bool npy = options.sources.front().extension() == ".npy";
  if (npy && options.sources.size() == 2) return std::make_unique<NpySource>(options);
  if (npy) throw usage("two .npy files are needed: the inputs, then the targets");
  if (options.sources.size() != 1) throw usage("one table is needed, or two .npy files");
  return std::make_unique<TableSource>(options);
}

// Writes the samples of one part into its shards, one shard open at a time.
class PartWriter {
 public:
  PartWriter(const PackOptions& options, const char* name, std::vector<ShardField> fields,
             std::int64_t samples, std::int64_t shards, PackResult& result)
      : options_(options),
        name_(name),
        fields_(std::move(fields)),
        samples_(samples),
        shards_(shards),
        result_(result) {}

  void append(const std::vector<std::span<const std::byte>>& row) {
    if (!writer_) open_next();
    writer_->append(row);
    if (++written_ < end_) return;
    writer_->close();
    writer_.reset();
  }

 private:
  void open_next() {
    const auto path = options_.output / fmt::format("{}-{:04}.h5", name_, shard_);
    const std::int64_t begin = samples_ * shard_ / shards_;
    end_ = samples_ * ++shard_ / shards_;
    writer_.emplace(path, fields_, end_ - begin);
    result_.files.push_back(path);
  }

  const PackOptions& options_;
  const char* name_;
  std::vector<ShardField> fields_;
  std::int64_t samples_;
  std::int64_t shards_;
  PackResult& result_;
  std::int64_t shard_ = 0;
  std::int64_t written_ = 0;
  std::int64_t end_ = 0;
  std::optional<Hdf5ShardWriter> writer_;
};

}  // namespace

PackResult pack(const PackOptions& options) {
  const std::unique_ptr<RowSource> source = open_source(options);
  Shape input_shape = source->input_shape();
  if (!options.input_shape.empty()) {
    if (element_count(options.input_shape) != element_count(input_shape)) {
      throw usage(fmt::format("--shape {} holds {} values, a sample has {}",
                              to_string(options.input_shape), element_count(options.input_shape),
                              element_count(input_shape)));
    }
    input_shape = options.input_shape;
  }
  const std::vector<ShardField> fields = {
      {options.input_path, options.input_dtype, input_shape},
      {options.target_path, options.target_dtype, source->target_shape()}};
  const std::int64_t rows = source->rows();
  const auto valid =
      static_cast<std::int64_t>(std::floor(options.valid_fraction * static_cast<double>(rows)));
  const std::int64_t train = rows - valid;
  if (train < options.shards) {
    throw usage(fmt::format("{} training samples do not fill {} shards", train, options.shards));
  }
  create_folders(options.output);
  PackResult result{.train_samples = train, .valid_samples = valid, .files = {}};
  PartWriter train_part(options, "train", fields, train, options.shards, result);
  PartWriter valid_part(options, "valid", fields, valid, 1, result);
  const Bijection place(rows, mix(options.seed, 0x7061636bULL));
  std::vector<std::byte> input(static_cast<std::size_t>(fields[0].row_bytes()));
  std::vector<std::byte> target(static_cast<std::size_t>(fields[1].row_bytes()));
  for (std::int64_t row = 0; row < rows; ++row) {
    source->next(input, target);
    (place(row) < valid ? valid_part : train_part).append({input, target});
  }
  return result;
}

}  // namespace hadal::io
