#include "io/mixing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include "io/axes.hpp"
#include "io/error.hpp"

namespace hadal::io {
namespace {

// No place in any list of transforms.
constexpr std::size_t kMixing = 1 << 20;

std::vector<Transform> mixers_of(const FieldOptions& options) {
  std::vector<Transform> mixers;
  for (const Transform& transform : options.augment) {
    if (is_mixing(transform.kind)) mixers.push_back(transform);
  }
  return mixers;
}

// Marsaglia and Tsang 2000, "A simple method for generating gamma variables".
double gamma(double shape, DrawStream& stream) {
  if (shape < 1) {
    const double power = std::pow(1 - stream.uniform(), 1 / shape);
    return gamma(shape + 1, stream) * power;
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double radius = std::sqrt(-2 * std::log(1 - stream.uniform()));
    const double x = radius * std::cos(2 * std::numbers::pi * stream.uniform());
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(1 - stream.uniform()) < x * x / 2 + d - d * v + d * std::log(v)) return d * v;
  }
}

// What becomes of one sample.
struct Mixture {
  float kept = 1;
  bool cuts = false;
  // By spatial axis, in parts of its extent: where the partner's box begins and ends.
  std::array<double, 3> begin{};
  std::array<double, 3> end{};
};

Mixture draw(const std::vector<Transform>& mixers, std::size_t spatial, const Draws& draws,
             std::int64_t id) {
  DrawStream stream(draws, id, kMixing);
  const auto which =
      static_cast<std::size_t>(stream.below(static_cast<std::int64_t>(mixers.size())));
  const Transform& transform = mixers[which];
  const double first = gamma(transform.alpha, stream), second = gamma(transform.alpha, stream);
  const double kept = first + second > 0 ? first / (first + second) : 1;
  Mixture mixture{.kept = static_cast<float>(kept),
                  .cuts = transform.kind == TransformKind::cutmix,
                  .begin = {},
                  .end = {}};
  if (!mixture.cuts) return mixture;
  const double side = std::pow(1 - kept, 1 / static_cast<double>(spatial));
  for (std::size_t d = 0; d < spatial; ++d) {
    const double centre = stream.uniform();
    mixture.begin[d] = std::max(0.0, centre - side / 2);
    mixture.end[d] = std::min(1.0, centre + side / 2);
  }
  return mixture;
}

std::span<float> floats(FieldBatch& field) {
  return {reinterpret_cast<float*>(field.bytes.data()), field.bytes.size() / sizeof(float)};
}

void blend(std::span<float> own, std::span<const float> other, float kept) {
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = own[i] * kept + other[i] * (1 - kept);
}

// Puts the box of `other` into `own`, [channels…, spatial…]; returns the share that was kept.
float paste(std::span<float> own, std::span<const float> other, const Shape& extents,
            const Mixture& mixture) {
  const std::size_t spatial = extents.size();
  std::array<std::size_t, 3> size{1, 1, 1}, begin{0, 0, 0}, end{1, 1, 1};
  for (std::size_t d = 0; d < spatial; ++d) {
    const std::size_t axis = 3 - spatial + d;
    const auto extent = static_cast<double>(extents[d]);
    size[axis] = static_cast<std::size_t>(extents[d]);
    begin[axis] = static_cast<std::size_t>(std::lround(mixture.begin[d] * extent));
    end[axis] = static_cast<std::size_t>(std::lround(mixture.end[d] * extent));
  }
  const std::size_t plane = size[0] * size[1] * size[2];
  for (std::size_t c = 0; c < own.size() / plane; ++c) {
    for (std::size_t d = begin[0]; d < end[0]; ++d) {
      for (std::size_t h = begin[1]; h < end[1]; ++h) {
        const std::size_t line = ((c * size[0] + d) * size[1] + h) * size[2];
        const float* const from = other.data() + line;
        std::copy(from + begin[2], from + end[2], own.data() + line + begin[2]);
      }
    }
  }
  const std::size_t cut = (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]);
  return 1 - static_cast<float>(cut) / static_cast<float>(plane);
}

// Labels as probabilities.
FieldBatch spread(const FieldBatch& labels, const FieldIndex& field,
                  std::span<const std::int64_t> ids) {
  const auto classes = static_cast<std::size_t>(field.options.classes);
  FieldBatch made{
      .dtype = DType::f32, .shape = {std::ssize(ids), field.options.classes}, .bytes = {}};
  made.bytes.resize(ids.size() * classes * sizeof(float));
  const std::span<float> shares = floats(made);
  std::fill(shares.begin(), shares.end(), 0.0f);
  const auto* const label = reinterpret_cast<const std::int64_t*>(labels.bytes.data());
  for (std::size_t k = 0; k < ids.size(); ++k) {
    if (label[k] < 0 || static_cast<std::size_t>(label[k]) >= classes) {
      throw Error(ErrorKind::data,
                  fmt::format("{} is {}: a label that is ignored cannot be mixed; take mixup and "
                              "cutmix out, or the sample",
                              field.where(ids[k]), label[k]));
    }
    shares[k * classes + static_cast<std::size_t>(label[k])] = 1;
  }
  return made;
}

// One field of the batch in place; `mixtures[k].kept` may be corrected by what was really cut.
void mix_field(FieldBatch& field, const Shape& extents, std::vector<Mixture>& mixtures,
               bool is_input) {
  const std::span<float> values = floats(field);
  const std::size_t count = mixtures.size(), size = values.size() / count;
  const std::vector<float> first(values.begin(),
                                 values.begin() + static_cast<std::ptrdiff_t>(size));
  for (std::size_t k = 0; k < count; ++k) {
    const std::span<float> own = values.subspan(k * size, size);
    const std::span<const float> other =
        k + 1 < count ? std::span<const float>(values.subspan((k + 1) * size, size)) : first;
    if (is_input && mixtures[k].cuts) {
      mixtures[k].kept = paste(own, other, extents, mixtures[k]);
    } else {
      blend(own, other, mixtures[k].kept);
    }
  }
}

}  // namespace

bool mixes(const DataIndex& index) {
  return std::any_of(index.fields.begin(), index.fields.end(),
                     [](const FieldIndex& field) { return !mixers_of(field.options).empty(); });
}

std::string mixing_fault(const DataIndex& index) {
  std::optional<std::vector<Transform>> mixers;
  for (const FieldIndex& field : index.fields) {
    const FieldOptions& options = field.options;
    const std::vector<Transform> own = mixers_of(options);
    if (options.role == FieldRole::input && !own.empty()) {
      if (mixers && *mixers != own) return "inputs that are mixed need the same mixup and cutmix";
      mixers = own;
      continue;
    }
    if (!own.empty()) return "mixup and cutmix belong to an input; targets are mixed with it";
    if (!mixers || options.role != FieldRole::target) continue;
    const bool labels = options.dtype == DType::i64;
    const bool cuts = std::any_of(mixers->begin(), mixers->end(), [](const Transform& transform) {
      return transform.kind == TransformKind::cutmix;
    });
    if (labels && (!field.sample_shape.empty() || options.classes == 0)) {
      return fmt::format(
          "target \"{}\" cannot be mixed: one class label a sample can, of classes whose number "
          "the model tells",
          options.name);
    }
    if (!labels && cuts && field.sample_shape.size() > 1) {
      return fmt::format("target \"{}\" of shape {} cannot be mixed by cutmix; take mixup",
                         options.name, to_string(field.sample_shape));
    }
  }
  return "";
}

void mix_batch(Batch& batch, const DataIndex& index, const Draws& draws) {
  if (batch.ids.empty()) return;
  std::vector<Mixture> mixtures;
  std::size_t input = 0, target = 0;
  for (const FieldIndex& field : index.fields) {
    if (field.options.role == FieldRole::input) {
      FieldBatch& values = batch.inputs[input++];
      const std::vector<Transform> mixers = mixers_of(field.options);
      if (mixers.empty()) continue;
      const std::size_t axes = field.sample_shape.size();
      const std::size_t spatial = spatial_axes(axes_of(field.options, axes));
      const Shape extents(field.sample_shape.end() - static_cast<std::ptrdiff_t>(spatial),
                          field.sample_shape.end());
      if (mixtures.empty()) {
        for (const std::int64_t id : batch.ids) {
          mixtures.push_back(draw(mixers, spatial, draws, id));
        }
      }
      mix_field(values, extents, mixtures, /*is_input=*/true);
    } else if (field.options.role == FieldRole::target && !mixtures.empty()) {
      FieldBatch& values = batch.targets[target++];
      if (values.dtype == DType::i64) values = spread(values, field, batch.ids);
      mix_field(values, {}, mixtures, /*is_input=*/false);
    }
  }
}

}  // namespace hadal::io
