#include "io/normalise.hpp"

#include <cmath>

#include "kernels/values.hpp"

namespace hadal::io {

bool changes_values(const FieldOptions& options) {
  return options.scale || !options.mean.empty() || !options.std.empty() || !options.log1p.empty();
}

void normalise(std::span<float> values, const FieldOptions& options, std::int64_t channels) {
  const auto count = static_cast<std::size_t>(channels);
  const std::size_t size = values.size() / count;
  for (const std::int64_t channel : options.log1p) {
    for (float& value : values.subspan(static_cast<std::size_t>(channel) * size, size)) {
      value = static_cast<float>(std::log1p(static_cast<double>(value)));
    }
  }
  const auto scale = static_cast<float>(options.scale.value_or(1.0));
  const auto pick = [](const std::vector<double>& list, std::size_t c, double otherwise) {
    return static_cast<float>(list.empty() ? otherwise : list[list.size() == 1 ? 0 : c]);
  };
  if (!options.scale && options.mean.empty() && options.std.empty()) return;
  if (options.mean.size() <= 1 && options.std.size() <= 1) {
    kernels::normalise(values, scale, pick(options.mean, 0, 0.0), pick(options.std, 0, 1.0));
    return;
  }
  for (std::size_t c = 0; c < count; ++c) {
    kernels::normalise(values.subspan(c * size, size), scale, pick(options.mean, c, 0.0),
                       pick(options.std, c, 1.0));
  }
}

}  // namespace hadal::io
