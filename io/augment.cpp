#include "io/augment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "io/axes.hpp"
#include "io/normalise.hpp"
#include "kernels/noise.hpp"
#include "kernels/resample.hpp"

namespace hadal::io {
namespace {

constexpr std::size_t kAxes = 4;  // channels, depth, height, width

// A box of a sample: where it begins (outside is allowed) and how far it goes.
struct Box {
  std::array<std::int64_t, kAxes> first{};
  std::array<std::int64_t, kAxes> size{};
};

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

template <class T>
void cut(std::span<const T> in, const Shape& from, std::span<T> out, const Box& box,
         std::span<const T> beyond) {
  const auto& [first, size] = box;
  // What of a line lies inside.
  const std::int64_t left = std::clamp<std::int64_t>(-first[3], 0, size[3]);
  const std::int64_t right = std::clamp<std::int64_t>(from[3] - first[3], left, size[3]);
  T* to = out.data();
  for (std::int64_t c = 0; c < size[0]; ++c) {
    const T fill = beyond[static_cast<std::size_t>(c)];
    for (std::int64_t d = 0; d < size[1]; ++d) {
      for (std::int64_t h = 0; h < size[2]; ++h, to += size[3]) {
        const std::int64_t depth = first[1] + d, height = first[2] + h;
        const bool inside = depth >= 0 && depth < from[1] && height >= 0 && height < from[2];
        if (!inside) {
          std::fill_n(to, size[3], fill);
          continue;
        }
        const T* const line = in.data() + ((c * from[1] + depth) * from[2] + height) * from[3];
        std::fill_n(to, left, fill);
        std::copy(line + first[3] + left, line + first[3] + right, to + left);
        std::fill(to + right, to + size[3], fill);
      }
    }
  }
}

template <class T>
void flip(std::span<const T> in, const Shape& shape, std::span<T> out,
          const std::array<bool, kAxes>& turned) {
  T* to = out.data();
  for (std::int64_t c = 0; c < shape[0]; ++c) {
    for (std::int64_t d = 0; d < shape[1]; ++d) {
      for (std::int64_t h = 0; h < shape[2]; ++h, to += shape[3]) {
        const std::int64_t depth = turned[1] ? shape[1] - 1 - d : d;
        const std::int64_t height = turned[2] ? shape[2] - 1 - h : h;
        const T* const line = in.data() + ((c * shape[1] + depth) * shape[2] + height) * shape[3];
        if (turned[3]) {
          std::reverse_copy(line, line + shape[3], to);
        } else {
          std::copy_n(line, shape[3], to);
        }
      }
    }
  }
}

// Counter-clockwise by `quarters` right angles, as numpy.rot90 over (height, width).
template <class T>
void rotate(std::span<const T> in, const Shape& shape, std::span<T> out, std::int64_t quarters) {
  const std::int64_t planes = shape[0] * shape[1], height = shape[2], width = shape[3];
  for (std::int64_t p = 0; p < planes; ++p) {
    const T* const from = in.data() + p * height * width;
    T* to = out.data() + p * height * width;
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const std::int64_t at = quarters == 0   ? y * width + x
                                : quarters == 1 ? x * width + (width - 1 - y)
                                : quarters == 2 ? (height - 1 - y) * width + (width - 1 - x)
                                                : (height - 1 - x) * width + y;
        *to++ = from[at];
      }
    }
  }
}

// A float's window is filtered, a label's nearest place is taken.
void resize(std::span<const float> in, const Shape& from, std::span<float> out, const Shape& to,
            const Box& box) {
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const std::size_t plane = size(from[2] * from[3]), made = size(to[2] * to[3]);
  for (std::size_t p = 0; p < size(from[0] * from[1]); ++p) {
    kernels::resample(out.subspan(p * made, made), size(to[3]), in.subspan(p * plane, plane),
                      {.top = size(box.first[2]),
                       .left = size(box.first[3]),
                       .height = size(box.size[2]),
                       .width = size(box.size[3]),
                       .stride = size(from[3])});
  }
}

void resize(std::span<const std::int64_t> in, const Shape& from, std::span<std::int64_t> out,
            const Shape& to, const Box& box) {
  std::int64_t* place = out.data();
  for (std::int64_t p = 0; p < from[0] * from[1]; ++p) {
    for (std::int64_t y = 0; y < to[2]; ++y) {
      const std::int64_t row = box.first[2] + (2 * y + 1) * box.size[2] / (2 * to[2]);
      for (std::int64_t x = 0; x < to[3]; ++x) {
        const std::int64_t column = box.first[3] + (2 * x + 1) * box.size[3] / (2 * to[3]);
        *place++ = in[static_cast<std::size_t>((p * from[2] + row) * from[3] + column)];
      }
    }
  }
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

namespace {

// The same moves of a map instead of values; an axis of it is one less than of a shape.
void cut(kernels::PixelMap& map, const Box& box) {
  for (std::size_t a = 0; a < 3; ++a) {
    const auto first = static_cast<std::int32_t>(box.first[a + 1]);
    map.first += box.first[a + 1] * map.step[a];
    map.begin[a] = std::max(0, map.begin[a] - first);
    map.end[a] = std::min(static_cast<std::int32_t>(box.size[a + 1]), map.end[a] - first);
  }
}

void flip(kernels::PixelMap& map, std::size_t axis, std::int64_t extent) {
  map.first += map.step[axis] * (extent - 1);
  map.step[axis] = -map.step[axis];
  const auto size = static_cast<std::int32_t>(extent);
  const std::int32_t begin = size - map.end[axis];
  map.end[axis] = size - map.begin[axis];
  map.begin[axis] = begin;
}

// (y, x) is (x, width - 1 - y) of before for one quarter: the width flipped, then both exchanged.
void rotate(kernels::PixelMap& map, const Shape& shape, std::int64_t quarters) {
  if (quarters == 1) flip(map, 2, shape[3]);
  if (quarters == 2) {
    flip(map, 1, shape[2]);
    flip(map, 2, shape[3]);
  }
  if (quarters == 3) flip(map, 1, shape[2]);
  if (quarters % 2 == 0) return;
  std::swap(map.step[1], map.step[2]);
  std::swap(map.begin[1], map.begin[2]);
  std::swap(map.end[1], map.end[2]);
}

}  // namespace

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
        for (std::size_t axis = 1; axis < kAxes; ++axis) {
          if (drawn.turned[axis]) flip(sample.outer, axis - 1, move.from[axis]);
        }
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

kernels::PixelMap whole_map(const Shape& four, bool channels_last) {
  kernels::PixelMap map;
  std::int64_t step = channels_last ? four[0] : 1;
  for (std::size_t a = 3; a-- > 0;) {
    map.step[a] = step;
    map.end[a] = static_cast<std::int32_t>(four[a + 1]);
    step *= four[a + 1];
  }
  return map;
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
