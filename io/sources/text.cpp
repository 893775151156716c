#include <fmt/format.h>

#include <algorithm>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

// Bytes of text as tokens, 0 to 255: a sample is `tokens` of them, its target the same one further.
class TextSource : public RowSource {
 public:
  explicit TextSource(const PackOptions& options) : options_(options) {
    starts_.push_back(0);
    for (const std::filesystem::path& path : options.sources) {
      const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
      files_.push_back(open_for_reading(path));
      // A sample lies in one file; its last target is one byte behind it.
      starts_.push_back(starts_.back() + std::max<std::int64_t>(0, (bytes - 1) / options.tokens));
    }
  }

  std::int64_t rows() override {
    if (starts_.back() > 0) return starts_.back();
    throw Error(ErrorKind::data, fmt::format("the text is shorter than one sample of {} tokens and "
                                             "the one behind it; see --tokens",
                                             options_.tokens));
  }
  std::vector<ShardField> fields() const override {
    return {{options_.input_path, DType::u8, {options_.tokens}},
            {options_.target_path, DType::u8, {options_.tokens}}};
  }
  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), row);
    const auto f = static_cast<std::size_t>(after - starts_.begin()) - 1;
    const std::int64_t at = (row - starts_[f]) * options_.tokens;
    read_at(files_[f].get(), fields[0], at, options_.sources[f]);
    read_at(files_[f].get(), fields[1], at + 1, options_.sources[f]);
  }

 private:
  const PackOptions& options_;
  std::vector<UniqueFd> files_;
  std::vector<std::int64_t> starts_;  // first sample of each file, then their number
};

}  // namespace

std::unique_ptr<RowSource> open_text(const PackOptions& options) {
  return std::make_unique<TextSource>(options);
}

}  // namespace hadal::io
