#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "io/convert.hpp"
#include "io/delimited_text.hpp"
#include "io/error.hpp"
#include "io/nearest.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

Error usage(const std::string& message) { return {ErrorKind::usage, message}; }

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
  explicit TableSource(const PackOptions& options)
      : table_(options.sources.front(), options.delimiter),
        options_(options),
        inputs_(select_columns(options.input_columns, table_.columns(), "--input")),
        targets_(select_columns(options.target_columns, table_.columns(), "--target")) {}

  std::int64_t rows() override {
    std::int64_t count = 0;
    while (table_.next(fields_)) ++count;
    table_.rewind();
    return count;
  }

  std::vector<ShardField> fields() const override {
    const Shape inputs{static_cast<std::int64_t>(inputs_.size())};
    const Shape targets{static_cast<std::int64_t>(targets_.size())};
    return {
        {options_.input_path, options_.input_dtype, inputs},
        {options_.target_path, options_.target_dtype, targets_.size() == 1 ? Shape{} : targets}};
  }

  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    if (row < next_ && kept_.empty() && ++rewinds_ > kRewinds) keep_all(fields);
    if (!kept_.empty()) {
      std::size_t at = static_cast<std::size_t>(row) * (fields[0].size() + fields[1].size());
      for (const std::span<std::byte> field : fields) {
        std::copy_n(kept_.begin() + static_cast<std::ptrdiff_t>(at), field.size(), field.begin());
        at += field.size();
      }
      return;
    }
    if (row < next_) {
      table_.rewind();
      next_ = 0;
    }
    while (next_ <= row) {
      table_.next(fields_);
      ++next_;
    }
    put(fields);
  }

 private:
  // A training and a validation part go through the table twice; whoever goes back more often
  // wants rows in no order, and gets them from memory.
  static constexpr int kRewinds = 2;

  void keep_all(std::span<const std::span<std::byte>> like) {
    std::vector<std::byte> input(like[0].size()), target(like[1].size());
    const std::vector<std::span<std::byte>> row{input, target};
    table_.rewind();
    while (table_.next(fields_)) {
      put(row);
      kept_.insert(kept_.end(), input.begin(), input.end());
      kept_.insert(kept_.end(), target.begin(), target.end());
    }
  }

  void put(std::span<const std::span<std::byte>> fields) {
    put(inputs_, options_.input_dtype, fields[0]);
    put(targets_, options_.target_dtype, fields[1]);
  }

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
  const PackOptions& options_;
  std::vector<std::size_t> inputs_;
  std::vector<std::size_t> targets_;
  std::vector<std::string_view> fields_;
  std::int64_t next_ = 0;  // row that the table gives next
  int rewinds_ = 0;
  std::vector<std::byte> kept_;
};

}  // namespace

std::unique_ptr<RowSource> open_table(const PackOptions& options) {
  if (options.sources.size() != 1) throw usage("one table at a time");
  return std::make_unique<TableSource>(options);
}

}  // namespace hadal::io
