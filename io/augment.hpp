#pragma once
// The random transforms of one field, applied on a sample's way into a batch. Fields with equal
// lists, as an image and its mask, are moved alike.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/data_index.hpp"
#include "io/draws.hpp"
#include "kernels/images.hpp"

namespace hadal::io {

// The shape of a sample behind the transforms, from the one before them. A fault, in words, goes to
// `fault`.
Shape augmented_shape(const FieldOptions& options, const Shape& shape, std::string& fault);

class Augment {
 public:
  // `shape`: of a sample as the batch would hold it without transforms. What lies beyond an edge
  // is a stored 0, normalised, and of class labels the one that is ignored.
  Augment(const FieldOptions& options, const Shape& shape);

  // Whether values change their places, so that a sample is prepared elsewhere than in its batch.
  bool moves() const { return !moves_.empty(); }

  // `sample` in `shape` to `out` in the shape behind the transforms. Without draws, as for an
  // evaluation: the middle of what a crop could take, and nothing else. Any thread.
  void place(std::span<const std::byte> sample, std::span<std::byte> out,
             const std::optional<Draws>& draws, std::int64_t id) const;

  // What comes last, on normalised values.
  void add_noise(std::span<float> values, const Draws& draws, std::int64_t id) const;

  // All of it as kernels/images.hpp does it, of samples that lie in memory as `stored` says.
  // Nothing where that cannot: more than one resizing, or a very strong one; values that are no
  // pixels.
  std::optional<kernels::ImageLayout> image_layout() const;
  kernels::ImageSample image(const kernels::PixelMap& stored, const std::optional<Draws>& draws,
                             std::int64_t id) const;
  // Of a sample before the transforms: channels, depth, height, width.
  const Shape& four_axes() const { return shape_; }
  // What is beyond an edge, by channel.
  std::span<const float> beyond() const { return beyond_; }

 private:
  // One transform with the extents that it works on: [channels, depth, height, width].
  struct Move {
    Transform transform;
    std::size_t number = 0;  // in the list
    Shape from;
    Shape to;
    std::vector<std::size_t> flipped;  // axes
  };

  // What has been drawn for one of them.
  struct Drawn;
  static Drawn draw(const Move& move, const std::optional<Draws>& draws, std::int64_t id);

  template <class T>
  void place_as(std::span<const T> sample, std::span<T> out, std::span<const T> beyond,
                const std::optional<Draws>& draws, std::int64_t id) const;

  Shape shape_;  // before the moves, in four axes
  std::vector<Move> moves_;
  std::vector<std::pair<std::size_t, float>> noise_;  // number and deviation
  // Beyond the edges, by channel; for the type that it is.
  std::vector<float> beyond_;
  std::vector<std::int64_t> label_beyond_;
  DType dtype_;
};

}  // namespace hadal::io
