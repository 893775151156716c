#include "io/image.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/unique_handle.hpp"
#include "kernels/resample.hpp"
#include "kernels/values.hpp"

#ifdef HADAL_HAS_TURBOJPEG
#include <turbojpeg.h>
#endif
#ifdef HADAL_HAS_PNG
#include <png.h>
#endif

namespace hadal::io {
namespace {

// Larger ones are a mistake, or mean harm.
constexpr std::int64_t kMostPixels = std::int64_t{1} << 28;

bool begins_with(std::span<const std::byte> bytes, std::string_view mark) {
  return bytes.size() >= mark.size() && std::memcmp(bytes.data(), mark.data(), mark.size()) == 0;
}

// [height, width, channels] to [channels, height, width].
void split_channels(std::span<const std::uint8_t> mixed, Image& image) {
  const auto channels = static_cast<std::size_t>(image.shape[0]);
  const std::size_t plane = mixed.size() / channels;
  image.pixels.resize(mixed.size());
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t p = 0; p < plane; ++p) image.pixels[c * plane + p] = mixed[p * channels + c];
  }
}

#ifdef HADAL_HAS_TURBOJPEG
struct DecoderTraits {
  using Handle = tjhandle;
  static constexpr Handle null() noexcept { return nullptr; }
  static void close(Handle decoder) noexcept { tjDestroy(decoder); }
};

std::string decode_jpeg(std::span<const std::byte> bytes, std::int64_t channels, Image& image) {
  const UniqueHandle<DecoderTraits> decoder(tjInitDecompress());
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0, height = 0, sampling = 0, colours = 0;
  const auto fault = [&] { return fmt::format("JPEG: {}", tjGetErrorStr2(decoder.get())); };
  if (tjDecompressHeader3(decoder.get(), data, bytes.size(), &width, &height, &sampling,
                          &colours) != 0) {
    return fault();
  }
  if (std::int64_t{width} * height > kMostPixels) return "JPEG: it is too large";
  image.shape = {channels, height, width};
  std::vector<std::uint8_t> mixed(static_cast<std::size_t>(element_count(image.shape)));
  // A warning means bytes that are missing or damaged.
  if (tjDecompress2(decoder.get(), data, bytes.size(), mixed.data(), width, 0, height,
                    channels == 1 ? TJPF_GRAY : TJPF_RGB, TJFLAG_STOPONWARNING) != 0) {
    return fault();
  }
  split_channels(mixed, image);
  return {};
}
#endif

#ifdef HADAL_HAS_PNG
std::string decode_png(std::span<const std::byte> bytes, std::int64_t channels, Image& image) {
  png_image file{};
  file.version = PNG_IMAGE_VERSION;
  const auto fault = [&] {
    const std::string words = fmt::format("PNG: {}", file.message);
    png_image_free(&file);
    return words;
  };
  if (png_image_begin_read_from_memory(&file, bytes.data(), bytes.size()) == 0) return fault();
  if (std::int64_t{file.width} * file.height > kMostPixels) {
    png_image_free(&file);
    return "PNG: it is too large";
  }
  // With the alpha channel, so that nothing is blended with a background; then without it.
  file.format = channels == 1 ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
  const auto wide = static_cast<std::size_t>(channels + 1);
  std::vector<std::uint8_t> with_alpha(std::size_t{file.width} * file.height * wide);
  if (png_image_finish_read(&file, nullptr, with_alpha.data(), 0, nullptr) == 0) return fault();
  image.shape = {channels, std::int64_t{file.height}, std::int64_t{file.width}};
  std::vector<std::uint8_t> mixed(static_cast<std::size_t>(element_count(image.shape)));
  const auto narrow = static_cast<std::size_t>(channels);
  for (std::size_t p = 0; p < mixed.size() / narrow; ++p) {
    std::copy_n(with_alpha.data() + p * wide, narrow, mixed.data() + p * narrow);
  }
  split_channels(mixed, image);
  return {};
}
#endif

}  // namespace

std::string decode_image(std::span<const std::byte> bytes, std::int64_t channels, Image& image) {
  if (begins_with(bytes, "\xff\xd8\xff")) {
#ifdef HADAL_HAS_TURBOJPEG
    return decode_jpeg(bytes, channels, image);
#else
    return "JPEG: this build has no libjpeg-turbo";
#endif
  }
  if (begins_with(bytes, "\x89PNG")) {
#ifdef HADAL_HAS_PNG
    return decode_png(bytes, channels, image);
#else
    return "PNG: this build has no libpng";
#endif
  }
  return "it is neither JPEG nor PNG";
}

void fit_image(const Image& image, std::int64_t height, std::int64_t width,
               std::span<std::uint8_t> pixels) {
  const std::int64_t rows = image.shape[1], columns = image.shape[2];
  // As high as it is, or as wide as it is.
  const std::int64_t high = std::min(rows, std::max<std::int64_t>(1, columns * height / width));
  const std::int64_t wide = std::min(columns, std::max<std::int64_t>(1, rows * width / height));
  const kernels::Window window{.top = static_cast<std::size_t>((rows - high) / 2),
                               .left = static_cast<std::size_t>((columns - wide) / 2),
                               .height = static_cast<std::size_t>(high),
                               .width = static_cast<std::size_t>(wide),
                               .stride = static_cast<std::size_t>(columns)};
  thread_local std::vector<float> plane, made;
  plane.resize(static_cast<std::size_t>(rows * columns));
  made.resize(static_cast<std::size_t>(height * width));
  for (std::size_t c = 0; c < static_cast<std::size_t>(image.shape[0]); ++c) {
    kernels::widen(plane, std::span(image.pixels).subspan(c * plane.size(), plane.size()));
    kernels::resample(made, static_cast<std::size_t>(width), plane, window);
    for (std::size_t i = 0; i < made.size(); ++i) {
      const float rounded = std::clamp(std::nearbyint(made[i]), 0.0f, 255.0f);
      pixels[c * made.size() + i] = static_cast<std::uint8_t>(rounded);
    }
  }
}

void write_png(const Image& image, const std::filesystem::path& path) {
#ifdef HADAL_HAS_PNG
  const auto channels = static_cast<std::size_t>(image.shape[0]);
  const std::size_t plane = image.pixels.size() / channels;
  std::vector<std::uint8_t> mixed(image.pixels.size());
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t p = 0; p < plane; ++p) mixed[p * channels + c] = image.pixels[c * plane + p];
  }
  png_image file{};
  file.version = PNG_IMAGE_VERSION;
  file.height = static_cast<png_uint_32>(image.shape[1]);
  file.width = static_cast<png_uint_32>(image.shape[2]);
  file.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(file);
  std::string content(bytes, '\0');
  if (png_image_write_to_memory(&file, content.data(), &bytes, 0, mixed.data(), 0, nullptr) == 0) {
    throw Error(ErrorKind::bug, fmt::format("PNG: {}", file.message));
  }
  content.resize(bytes);
  write_file_atomically(path, content);
#else
  static_cast<void>(image);
  throw Error(ErrorKind::usage,
              fmt::format("{} cannot be drawn: this build has no libpng", path.string()));
#endif
}

}  // namespace hadal::io
