#include <fmt/format.h>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/image.hpp"
#include "io/sources/row_source.hpp"

namespace hadal::io {
namespace {

class ImageSource : public RowSource {
 public:
  explicit ImageSource(const PackOptions& options)
      : options_(options), found_(list_classes(options.sources[0], {".jpg", ".jpeg", ".png"})) {}

  std::int64_t rows() override { return std::ssize(found_.files); }
  std::vector<ShardField> fields() const override {
    const Shape shape{options_.channels, options_.image_size[0], options_.image_size[1]};
    return {{options_.input_path, DType::u8, shape}, {options_.target_path, DType::i64, {}}};
  }
  void read(std::int64_t row, std::span<const std::span<std::byte>> fields) override {
    const ClassFolder::File& file = found_.files[static_cast<std::size_t>(row)];
    const std::string bytes = read_file(file.path);
    Image image;
    const std::string fault =
        decode_image(std::as_bytes(std::span(bytes)), options_.channels, image);
    if (!fault.empty()) {
      throw Error(ErrorKind::data, fmt::format("{}: {}", file.path.string(), fault));
    }
    fit_image(image, options_.image_size[0], options_.image_size[1],
              {reinterpret_cast<std::uint8_t*>(fields[0].data()), fields[0].size()});
    const auto label = std::as_bytes(std::span(&file.label, 1));
    std::copy(label.begin(), label.end(), fields[1].begin());
  }
  std::vector<std::string> class_names() const override { return found_.classes; }

 private:
  const PackOptions& options_;
  ClassFolder found_;
};

}  // namespace

std::unique_ptr<RowSource> open_images(const PackOptions& options) {
  if (options.image_size.size() != 2) {
    throw Error(ErrorKind::usage, "images need one size for all: --size HEIGHT,WIDTH");
  }
  return std::make_unique<ImageSource>(options);
}

}  // namespace hadal::io
