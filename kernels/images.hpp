#pragma once
// Images in whole numbers, as they are stored, to what a network takes: turned, cut, resized,
// normalised and noisy in one pass, on a device or, with the same bits, on the host. What is done
// to each has been drawn before (io/augment.hpp).

#include <cstddef>
#include <cstdint>

#include "kernels/stream.hpp"

namespace hadal::kernels {

// Where the pixels of an image come from: pixel (d, h, w) is element first + d * step[0] + h *
// step[1] + w * step[2] of a channel where it lies inside of the box, else nothing is there.
struct PixelMap {
  std::int64_t first = 0;
  std::int64_t step[3] = {};
  std::int32_t begin[3] = {};
  std::int32_t end[3] = {};
};

// Of noise in one sample.
inline constexpr int kMostNoises = 2;
// Pixels of a line that one of a resized line is made of, at most.
inline constexpr int kMostTaps = 64;

struct ImageSample {
  PixelMap outer;  // the pixels of the batch: in the stored sample, or in what is resized
  PixelMap inner;  // the pixels that are resized, in the stored sample
  // Which part of them is resized, and to which extents; nothing where these are 0.
  std::int32_t top = 0, left = 0, height = 0, width = 0;
  std::int32_t to_height = 0, to_width = 0;
  std::uint64_t noise_keys[kMostNoises] = {};
};

enum class ImageType : std::int32_t { u8, i8, u16, i16 };

// What the samples of a batch have in common.
struct ImageLayout {
  ImageType type = ImageType::u8;
  std::int32_t channels = 1;
  std::int32_t size[3] = {1, 1, 1};  // depth, height, width of a sample of the batch
  std::int64_t stored_elements = 0;  // of a stored sample
  std::int64_t channel_step = 0;     // from a pixel of it to the same one of the next channel
  bool normalises = false;           // value * scale - mean, divided by std
  float scale = 1;
  std::int32_t noises = 0;
  float noise_steps[kMostNoises] = {};  // kernels/noise.hpp
};

// out [count, channels, depth, height, width] out of `count` stored samples, all in the stream's
// memory; `constants` are mean, std and what is beyond an edge: [3, channels].
void make_images(Stream stream, const ImageLayout& layout, std::int64_t count,
                 const std::byte* stored, const ImageSample* samples, const float* constants,
                 float* out);

}  // namespace hadal::kernels
