#pragma once
// JPEG and PNG images out of their bytes, as samples hold them: channels first.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::io {

struct Image {
  Shape shape;  // [channels, height, width]
  std::vector<std::uint8_t> pixels;
};

// Grey (channels = 1) or red, green, blue (3), whatever the file holds; transparency is dropped.
// Bytes that are no such image, or cut off, give a fault in words. Any thread.
std::string decode_image(std::span<const std::byte> bytes, std::int64_t channels, Image& image);

// The largest part in the middle that has the aspect of [height, width], in that size (antialiased
// bilinear), into `pixels` [channels, height, width].
void fit_image(const Image& image, std::int64_t height, std::int64_t width,
               std::span<std::uint8_t> pixels);

// Writes a PNG of [1 or 3, height, width], atomically. Throws a storage error, or a usage error
// where this build has no libpng.
void write_png(const Image& image, const std::filesystem::path& path);

}  // namespace hadal::io
