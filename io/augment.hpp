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

 private:
  // One transform with the extents that it works on: [channels, depth, height, width].
  struct Move {
    Transform transform;
    std::size_t number = 0;  // in the list
    Shape from;
    Shape to;
    std::vector<std::size_t> flipped;  // axes
  };

  template <class T>
  void place_as(std::span<const T> sample, std::span<T> out, std::span<const T> beyond,
                const std::optional<Draws>& draws, std::int64_t id) const;

  std::vector<Move> moves_;
  std::vector<std::pair<std::size_t, float>> noise_;  // number and deviation
  // Beyond the edges, by channel; for the type that it is.
  std::vector<float> beyond_;
  std::vector<std::int64_t> label_beyond_;
  DType dtype_;
};

}  // namespace hadal::io
