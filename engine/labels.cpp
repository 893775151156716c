#include "engine/labels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "engine/plan.hpp"
#include "io/batch_reader.hpp"
#include "io/sample_order.hpp"

namespace hadal::engine {
namespace {

constexpr std::int64_t kFirstSteps = 10;
// Samples a class from which on all classes are to be expected among them.
constexpr std::int64_t kEnough = 5;

bool has_labels(const io::FieldIndex& field) {
  return field.options.role == io::FieldRole::target && field.options.dtype == io::DType::i64 &&
         field.options.classes > 0 && field.sample_shape.empty();
}

}  // namespace

LabelCounts count_labels(const io::DataIndex& data, std::size_t field,
                         std::span<const std::int64_t> samples, const io::BatchOptions& options) {
  constexpr std::size_t kTogether = 4096;
  io::DataIndex one;
  one.fields = {data.fields[field]};
  one.samples = data.samples;
  io::BatchReader reader(one, options);
  LabelCounts counts;
  for (std::size_t first = 0; first < samples.size(); first += kTogether) {
    const io::Batch batch =
        reader.read(samples.subspan(first, std::min(kTogether, samples.size() - first)));
    const std::span<const std::byte> bytes = batch.targets[0].bytes;
    const auto* labels = reinterpret_cast<const std::int64_t*>(bytes.data());
    for (std::size_t i = 0; i < bytes.size() / sizeof *labels; ++i) {
      if (labels[i] != one.fields[0].options.ignore_index) ++counts[labels[i]];
    }
  }
  return counts;
}

std::string poor_mix(const RunConfig& config, const io::DataIndex& data) {
  const io::OrderOptions options = order_options(config, data);
  if (options.shuffle == io::Shuffle::full) return "";
  const io::SampleOrder order(options);
  const std::int64_t steps = std::min(kFirstSteps, order.steps_per_epoch());
  const std::vector<std::int64_t> samples = order.first_samples(steps);
  for (std::size_t f = 0; f < data.fields.size(); ++f) {
    const io::FieldIndex& field = data.fields[f];
    if (!has_labels(field) || std::ssize(samples) < kEnough * field.options.classes) continue;
    const auto seen = std::ssize(count_labels(data, f, samples, config.data.batch));
    if (2 * seen >= field.options.classes) continue;
    return fmt::format(
        "the first {} steps hold {} of the {} classes of \"{}\": the samples lie sorted, and this "
        "order does not mix them; set data.shuffle = \"full\", a larger data.window, or repack "
        "them with hadal pack --order shuffled",
        steps, seen, field.options.classes, field.options.name);
  }
  return "";
}

}  // namespace hadal::engine
