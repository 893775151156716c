#include "kernels/images.hpp"
#include "kernels/noise_code.hpp"
#include "kernels/resample_code.hpp"

namespace hadal::kernels {
namespace {

HADAL_BOTH bool is_inside(const PixelMap& map, std::int32_t d, std::int32_t h, std::int32_t w) {
  return d >= map.begin[0] && d < map.end[0] && h >= map.begin[1] && h < map.end[1] &&
         w >= map.begin[2] && w < map.end[2];
}

HADAL_BOTH std::int64_t place_of(const PixelMap& map, std::int32_t d, std::int32_t h,
                                 std::int32_t w) {
  return map.first + d * map.step[0] + h * map.step[1] + w * map.step[2];
}

// A pixel of the batch with all of its channels.
template <class T>
struct Images {
  ImageLayout layout;
  const T* stored;
  const ImageSample* samples;
  const float* constants;
  float* out;

  HADAL_BOTH float beyond(std::int32_t c) const { return constants[2 * layout.channels + c]; }

  HADAL_BOTH float value(const T* sample, std::int32_t c, std::int64_t place) const {
    const auto wide = static_cast<float>(sample[c * layout.channel_step + place]);
    if (!layout.normalises) return wide;
    return (wide * layout.scale - constants[c]) / constants[layout.channels + c];
  }

  template <int N>
  HADAL_BOTH void run(std::int64_t first) const {
    for (int k = 0; k < N; ++k) make(first + k);
  }

  // Number `place_in_batch` of all pixels of the batch.
  HADAL_BOTH void make(std::int64_t place_in_batch) const {
    const std::int64_t pixels =
        static_cast<std::int64_t>(layout.size[0]) * layout.size[1] * layout.size[2];
    const std::int64_t number = place_in_batch / pixels;
    const std::int64_t pixel = place_in_batch % pixels;
    const auto w = static_cast<std::int32_t>(pixel % layout.size[2]);
    const auto h = static_cast<std::int32_t>(pixel / layout.size[2] % layout.size[1]);
    const auto d = static_cast<std::int32_t>(pixel / layout.size[2] / layout.size[1]);
    const ImageSample& image = samples[number];
    const T* const sample = stored + number * layout.stored_elements;
    float* const to = out + number * layout.channels * pixels + pixel;
    const bool inside = is_inside(image.outer, d, h, w);
    const std::int64_t place = place_of(image.outer, d, h, w);
    if (!inside) {
      for (std::int32_t c = 0; c < layout.channels; ++c) to[c * pixels] = beyond(c);
    } else if (image.to_width == 0) {
      for (std::int32_t c = 0; c < layout.channels; ++c) to[c * pixels] = value(sample, c, place);
    } else {
      resize(image, sample, place, to, pixels);
    }
    for (int n = 0; n < layout.noises; ++n) {
      for (std::int32_t c = 0; c < layout.channels; ++c) {
        const auto i = static_cast<std::uint32_t>(c * pixels + pixel);
        to[c * pixels] += noise_of(image.noise_keys[n], i) * layout.noise_steps[n];
      }
    }
  }

  // Lines first, then what they are columns of, as kernels/resample.hpp adds them up.
  HADAL_BOTH void resize(const ImageSample& image, const T* sample, std::int64_t place, float* to,
                         std::int64_t pixels) const {
    const Taps across = taps_of(place % image.to_width, image.width, image.to_width);
    const Taps down = taps_of(place / image.to_width, image.height, image.to_height);
    float across_weights[kMostTaps], down_weights[kMostTaps];
    for (std::int64_t j = across.begin; j < across.end; ++j) {
      across_weights[j - across.begin] = across.weight(j);
    }
    for (std::int64_t j = down.begin; j < down.end; ++j) {
      down_weights[j - down.begin] = down.weight(j);
    }
    for (std::int32_t c = 0; c < layout.channels; ++c) {
      float sum = 0;
      for (std::int64_t y = down.begin; y < down.end; ++y) {
        const auto row = image.top + static_cast<std::int32_t>(y);
        float line = 0;
        for (std::int64_t x = across.begin; x < across.end; ++x) {
          const auto column = image.left + static_cast<std::int32_t>(x);
          const float pixel = is_inside(image.inner, 0, row, column)
                                  ? value(sample, c, place_of(image.inner, 0, row, column))
                                  : beyond(c);
          line += across_weights[x - across.begin] * pixel;
        }
        sum += down_weights[y - down.begin] * line;
      }
      to[c * pixels] = sum;
    }
  }
};

template <class T>
void make(Stream stream, const ImageLayout& layout, std::int64_t count, const std::byte* stored,
          const ImageSample* samples, const float* constants, float* out) {
  const std::int64_t pixels =
      static_cast<std::int64_t>(layout.size[0]) * layout.size[1] * layout.size[2];
  for_each_element(
      stream, count * pixels, /*aligned=*/false,
      Images<T>{layout, reinterpret_cast<const T*>(stored), samples, constants, out});
}

}  // namespace

void make_images(Stream stream, const ImageLayout& layout, std::int64_t count,
                 const std::byte* stored, const ImageSample* samples, const float* constants,
                 float* out) {
  switch (layout.type) {
    case ImageType::u8:
      return make<std::uint8_t>(stream, layout, count, stored, samples, constants, out);
    case ImageType::i8:
      return make<std::int8_t>(stream, layout, count, stored, samples, constants, out);
    case ImageType::u16:
      return make<std::uint16_t>(stream, layout, count, stored, samples, constants, out);
    case ImageType::i16:
      return make<std::int16_t>(stream, layout, count, stored, samples, constants, out);
  }
}

}  // namespace hadal::kernels
