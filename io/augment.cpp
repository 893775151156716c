#include "io/augment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "io/axes.hpp"
#include "io/map_moves.hpp"
#include "io/normalise.hpp"
#include "io/value_moves.hpp"
#include "kernels/noise.hpp"

namespace hadal::io {
namespace {

// [C, H, W] as [C, 1, H, W], and so on: spatial axes are the last ones.
Shape in_four_axes(const Shape& shape, std::size_t spatial) {
  Shape four(kAxes, 1);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::size_t from_end = shape.size() - 1 - d;
    const std::size_t axis = from_end < spatial ? kAxes - 1 - from_end : 0;
    four[axis] *= shape[d];
  }
  return four;
}

// `size` in place of the spatial extents.
Shape resized(const Shape& four, const Shape& size) {
  Shape to = four;
  std::copy(size.begin(), size.end(), to.end() - static_cast<std::ptrdiff_t>(size.size()));
  return to;
}

Box middle(const Shape& from, const Shape& to) {
  Box box;
  for (std::size_t d = 0; d < kAxes; ++d) {
    box.size[d] = to[d];
    box.first[d] = (from[d] - to[d]) / 2;
  }
  return box;
}

Box any_crop(const Shape& from, const Shape& to, std::int64_t padding, DrawStream& stream) {
  Box box = middle(from, to);
  for (std::size_t d = 1; d < kAxes; ++d) {
    // An axis of one place is none.
    const std::int64_t around = from[d] == 1 && to[d] == 1 ? 0 : padding;
    box.first[d] = stream.below(from[d] + 2 * around - to[d] + 1) - around;
  }
  return box;
}

// Ten tries for an area and an aspect that fit, then the middle: Szegedy et al. 2015 ("Going deeper
// with convolutions", section 6) with the fallback of torchvision's RandomResizedCrop.
Box any_window(const Shape& from, const Transform& transform, DrawStream& stream) {
  const auto height = static_cast<double>(from[2]), width = static_cast<double>(from[3]);
  Box box = middle(from, from);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = height * width * stream.uniform(transform.least_area, transform.most_area);
    const double aspect =
        std::exp(stream.uniform(std::log(transform.least_aspect), std::log(transform.most_aspect)));
    const auto w = static_cast<std::int64_t>(std::lround(std::sqrt(area * aspect)));
    const auto h = static_cast<std::int64_t>(std::lround(std::sqrt(area / aspect)));
    if (w < 1 || h < 1 || w > from[3] || h > from[2]) continue;
    box.size[2] = h;
    box.size[3] = w;
    box.first[2] = stream.below(from[2] - h + 1);
    box.first[3] = stream.below(from[3] - w + 1);
    return box;
  }
  const double aspect = std::clamp(width / height, transform.least_aspect, transform.most_aspect);
  box.size[3] = std::clamp<std::int64_t>(std::lround(height * aspect), 1, from[3]);
  box.size[2] =
      std::clamp<std::int64_t>(std::lround(static_cast<double>(box.size[3]) / aspect), 1, from[2]);
  box.first[2] = (from[2] - box.size[2]) / 2;
  box.first[3] = (from[3] - box.size[3]) / 2;
  return box;
}

}  // namespace

Shape augmented_shape(const FieldOptions& options, const Shape& shape, std::string& fault) {
  Shape now = shape;
  const std::string axes = axes_of(options, shape.size());
  const std::size_t spatial = spatial_axes(axes);
  for (const Transform& transform : options.augment) {
    if (transform.kind == TransformKind::noise || is_mixing(transform.kind)) continue;
    if (axes.size() != shape.size() || spatial < 1 || spatial > 3) {
      fault = fmt::format(
          "samples of shape {} have no axes to move; layout says which they are, as in \"NCHW\"",
          to_string(shape));
      return now;
    }
    const bool is_plane =
        transform.kind == TransformKind::resized_crop || transform.kind == TransformKind::rotate;
    if (is_plane && spatial < 2) {
      fault = fmt::format("samples of shape {} have no height and width", to_string(shape));
    }
    if (transform.kind == TransformKind::resized_crop && spatial > 2) {
      fault = "resized_crop is for images, not for volumes; use crop";
    }
    if (transform.kind == TransformKind::flip) {
      for (const char axis : transform.axes) {
        if (axis == 'C' || axes.find(axis) == std::string::npos) {
          fault = fmt::format("flip of the axis {} of a sample {}", axis, axes);
        }
      }
    }
    const bool by_channel = options.mean.size() > 1 || options.std.size() > 1;
    if (transform.padding > 0 && by_channel && !axes.starts_with('C')) {
      fault = "padding needs to know the channels that mean and std are of; layout says which";
    }
    if (transform.size.empty()) continue;
    if (transform.size.size() != spatial) {
      fault = fmt::format("a crop to {} of samples with {} spatial axes ({})",
                          to_string(transform.size), spatial, axes);
      return now;
    }
    for (std::size_t d = 0; d < spatial; ++d) {
      std::int64_t& extent = now[now.size() - spatial + d];
      if (transform.size[d] > extent + 2 * transform.padding) {
        fault = fmt::format("a crop to {} is larger than samples of shape {}{}",
                            to_string(transform.size), to_string(shape),
                            transform.padding > 0 ? " with their padding" : "");
      }
      extent = transform.size[d];
    }
  }
  return now;
}

Augment::Augment(const FieldOptions& options, const Shape& shape) : dtype_(options.dtype) {
  const std::string axes = axes_of(options, shape.size());
  shape_ = in_four_axes(shape, spatial_axes(axes));
  Shape four = shape_;
  const bool labels = options.role == FieldRole::target && options.classes > 0;
  label_beyond_.assign(static_cast<std::size_t>(four[0]), labels ? options.ignore_index : 0);
  beyond_.assign(static_cast<std::size_t>(four[0]), 0.0f);
  normalise(beyond_, options, four[0]);
  for (std::size_t i = 0; i < options.augment.size(); ++i) {
    const Transform& transform = options.augment[i];
    if (is_mixing(transform.kind)) continue;
    if (transform.kind == TransformKind::noise) {
      noise_.emplace_back(i, static_cast<float>(transform.deviation));
      continue;
    }
    Move move{transform, i, four, resized(four, transform.size), {}};
    if (transform.kind == TransformKind::flip) {
      for (const char axis : transform.axes) {
        move.flipped.push_back(kAxes - axes.size() + axes.find(axis));
      }
    }
    four = move.to;
    moves_.push_back(std::move(move));
  }
}

struct Augment::Drawn {
  enum class Does { cut, resize, flip, rotate };
  Does does = Does::cut;
  Box box;
  std::array<bool, kAxes> turned{};
  std::int64_t quarters = 0;
};

Augment::Drawn Augment::draw(const Move& move, const std::optional<Draws>& draws, std::int64_t id) {
  Drawn drawn;
  if (!draws) {
    drawn.box = middle(move.from, move.to);
    return drawn;
  }
  const Transform& transform = move.transform;
  DrawStream stream(*draws, id, move.number);
  if (transform.kind == TransformKind::crop) {
    drawn.box = any_crop(move.from, move.to, transform.padding, stream);
  } else if (transform.kind == TransformKind::resized_crop) {
    drawn.does = Drawn::Does::resize;
    drawn.box = any_window(move.from, transform, stream);
  } else if (transform.kind == TransformKind::flip) {
    drawn.does = Drawn::Does::flip;
    for (const std::size_t axis : move.flipped) {
      drawn.turned[axis] = stream.uniform() < transform.probability;
    }
  } else {
    drawn.does = Drawn::Does::rotate;
    // Only half turns keep an oblong's shape.
    const bool square = move.from[2] == move.from[3];
    drawn.quarters = square ? stream.below(4) : 2 * stream.below(2);
  }
  return drawn;
}

template <class T>
void Augment::place_as(std::span<const T> sample, std::span<T> out, std::span<const T> beyond,
                       const std::optional<Draws>& draws, std::int64_t id) const {
  thread_local std::vector<T> scratch[2];
  std::size_t turn = 0;
  std::span<const T> now = sample;
  for (std::size_t m = 0; m < moves_.size(); ++m) {
    const Move& move = moves_[m];
    const bool last = m + 1 == moves_.size();
    if (!draws && move.from == move.to && !last) continue;
    std::vector<T>& room = scratch[turn++ % 2];
    if (!last) room.resize(static_cast<std::size_t>(element_count(move.to)));
    const std::span<T> to = last ? out : std::span<T>(room);
    const Drawn drawn = draw(move, draws, id);
    switch (drawn.does) {
      case Drawn::Does::cut:
        cut(now, move.from, to, drawn.box, beyond);
        break;
      case Drawn::Does::resize:
        resize(now, move.from, to, move.to, drawn.box);
        break;
      case Drawn::Does::flip:
        flip(now, move.from, to, drawn.turned);
        break;
      case Drawn::Does::rotate:
        rotate(now, move.from, to, drawn.quarters);
        break;
    }
    now = to;
  }
}

std::optional<kernels::ImageLayout> Augment::image_layout() const {
  const Shape to = moves_.empty() ? shape_ : moves_.back().to;
  int resizings = 0;
  for (const Move& move : moves_) {
    if (move.transform.kind != TransformKind::resized_crop) continue;
    ++resizings;
    for (const std::size_t axis : {2, 3}) {
      // kernels/resample_code.hpp: twice the support, and one at each end.
      if (2 * (move.from[axis] / move.to[axis] + 1) + 2 > kernels::kMostTaps) return {};
    }
  }
  if (dtype_ != DType::f32 || resizings > 1 || std::ssize(noise_) > kernels::kMostNoises ||
      shape_[2] * shape_[3] == 1) {
    return {};
  }
  kernels::ImageLayout layout{.channels = static_cast<std::int32_t>(to[0]),
                              .stored_elements = element_count(shape_),
                              .noises = static_cast<std::int32_t>(noise_.size())};
  for (std::size_t a = 0; a < 3; ++a) layout.size[a] = static_cast<std::int32_t>(to[a + 1]);
  for (std::size_t n = 0; n < noise_.size(); ++n) {
    layout.noise_steps[n] = kernels::noise_step(noise_[n].second);
  }
  return layout;
}

kernels::ImageSample Augment::image(const kernels::PixelMap& stored,
                                    const std::optional<Draws>& draws, std::int64_t id) const {
  kernels::ImageSample sample{.outer = stored};
  for (const Move& move : moves_) {
    const Drawn drawn = draw(move, draws, id);
    switch (drawn.does) {
      case Drawn::Does::cut:
        cut(sample.outer, drawn.box);
        break;
      case Drawn::Does::resize:
        sample.inner = sample.outer;
        sample.top = static_cast<std::int32_t>(drawn.box.first[2]);
        sample.left = static_cast<std::int32_t>(drawn.box.first[3]);
        sample.height = static_cast<std::int32_t>(drawn.box.size[2]);
        sample.width = static_cast<std::int32_t>(drawn.box.size[3]);
        sample.to_height = static_cast<std::int32_t>(move.to[2]);
        sample.to_width = static_cast<std::int32_t>(move.to[3]);
        sample.outer = whole_map(move.to, /*channels_last=*/false);
        break;
      case Drawn::Does::flip:
        flip(sample.outer, move.from, drawn.turned);
        break;
      case Drawn::Does::rotate:
        rotate(sample.outer, move.from, drawn.quarters);
        break;
    }
  }
  if (!draws) return sample;
  for (std::size_t n = 0; n < noise_.size(); ++n) {
    sample.noise_keys[n] = DrawStream(*draws, id, noise_[n].first).key();
  }
  return sample;
}

void Augment::place(std::span<const std::byte> sample, std::span<std::byte> out,
                    const std::optional<Draws>& draws, std::int64_t id) const {
  const auto as = [&]<class T>(const std::vector<T>& beyond) {
    place_as<T>({reinterpret_cast<const T*>(sample.data()), sample.size() / sizeof(T)},
                {reinterpret_cast<T*>(out.data()), out.size() / sizeof(T)}, beyond, draws, id);
  };
  if (dtype_ == DType::f32) {
    as(beyond_);
  } else {
    as(label_beyond_);
  }
}

void Augment::add_noise(std::span<float> values, const Draws& draws, std::int64_t id) const {
  for (const auto& [number, deviation] : noise_) {
    kernels::add_noise(values, deviation, DrawStream(draws, id, number).key());
  }
}

}  // namespace hadal::io
