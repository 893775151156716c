#include "io/batch_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/convert.hpp"
#include "io/error.hpp"
#include "io/image.hpp"
#include "io/log.hpp"
#include "io/map_moves.hpp"
#include "io/mixing.hpp"
#include "io/normalise.hpp"
#include "kernels/values.hpp"

namespace hadal::io {
namespace {

// Bytes of samples that are fetched and converted together.
constexpr std::int64_t kTogether = 256 << 10;

// Thrown inside for a sample that may be skipped; `what` names the place.
struct BadSample {
  std::string message;
};

template <class T>
std::span<T> as(std::span<std::byte> bytes) {
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// [spatial…, channels] to [channels, spatial…].
template <class T>
void channels_first(std::span<T> values, std::int64_t channels) {
  thread_local std::vector<T> stored;
  stored.assign(values.begin(), values.end());
  const auto c_count = static_cast<std::size_t>(channels);
  const std::size_t places = stored.size() / c_count;
  for (std::size_t p = 0; p < places; ++p) {
    for (std::size_t c = 0; c < c_count; ++c) values[c * places + p] = stored[p * c_count + c];
  }
}

void check_finite(const FieldIndex& field, std::int64_t id, std::span<const float> values) {
  if (kernels::all_finite(values)) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw BadSample{fmt::format("{} holds {} at element {}", field.where(id), values[i], i)};
    }
  }
}

void check_labels(const FieldIndex& field, std::int64_t id, std::span<const std::int64_t> labels) {
  for (const std::int64_t label : labels) {
    if ((label >= 0 && label < field.options.classes) || label == field.options.ignore_index)
      continue;
    throw Error(
        ErrorKind::data,
        fmt::format("{} has the label {}; the model has {} classes, 0 to {}", field.where(id),
                    label, field.options.classes, field.options.classes - 1));
  }
}

std::int64_t class_of_one_hot(const FieldIndex& field, std::int64_t id,
                              std::span<const std::byte> raw, DType dtype) {
  const std::int64_t classes = field.stored_shape.front();
  std::int64_t found = -1;
  for (std::int64_t c = 0; c < classes; ++c) {
    const double value = value_at(raw, dtype, c);
    if (value == 0.0) continue;
    if (value != 1.0 || found >= 0) {
      throw Error(ErrorKind::data, fmt::format("{} is not one-hot", field.where(id)));
    }
    found = c;
  }
  if (found < 0) throw Error(ErrorKind::data, fmt::format("{} is not one-hot", field.where(id)));
  return found;
}

void check_weight(const FieldIndex& field, std::int64_t id, std::span<const float> weights) {
  for (const float weight : weights) {
    if (weight >= 0 && std::isfinite(weight)) continue;
    throw Error(ErrorKind::data,
                fmt::format("{} is {}; a weight is a number from 0", field.where(id), weight));
  }
}

std::vector<FieldBatch>& group_of(Batch& batch, FieldRole role) {
  switch (role) {
    case FieldRole::input:
      return batch.inputs;
    case FieldRole::target:
      return batch.targets;
    case FieldRole::weight:
      return batch.sample_weights;
    case FieldRole::id:
      return batch.sample_ids;
  }
  return batch.inputs;
}

// An image file to pixels of the size that the config says.
void decode(const FieldIndex& field, std::int64_t id, std::span<const std::byte> file,
            std::span<std::uint8_t> pixels) {
  thread_local Image image;
  const FieldOptions& options = field.options;
  const std::string fault = decode_image(file, options.channels, image);
  if (!fault.empty()) throw BadSample{fmt::format("{}: {}", field.where(id), fault)};
  fit_image(image, options.decode[0], options.decode[1], pixels);
}

std::optional<kernels::ImageType> image_type(DType dtype) {
  switch (dtype) {
    case DType::u8:
      return kernels::ImageType::u8;
    case DType::i8:
      return kernels::ImageType::i8;
    case DType::u16:
      return kernels::ImageType::u16;
    case DType::i16:
      return kernels::ImageType::i16;
    default:
      return {};
  }
}

// Whether a stored sample is already what a batch holds, but for normalising in place.
bool is_stored_so(const FieldIndex& field) {
  const FieldOptions& options = field.options;
  return !options.one_hot && options.decode.empty() && !options.layout.ends_with('C') &&
         std::all_of(field.parts.begin(), field.parts.end(), [&](const ScannedDataset& part) {
           return part.stored.dtype == options.dtype;
         });
}

}  // namespace

BatchReader::BatchReader(const DataIndex& index, const BatchOptions& options)
    : index_(index),
      options_(options),
      mixes_(mixes(index)),
      fetcher_(index, options.memory_bytes, options.direct),
      good_(static_cast<std::size_t>(index.samples / 64 + 1)) {
  for (const FieldIndex& field : index.fields) {
    augments_.emplace_back(field.options, field.whole_shape);
    plans_.push_back(plan_of(augments_.size() - 1));
    stored_so_.push_back(plans_.back() ? field.options.decode.empty()
                                       : is_stored_so(field) && !augments_.back().moves());
  }
}

// What of a field may stay as it is: whole numbers of one type, of which one pass makes all.
std::optional<ImagePlan> BatchReader::plan_of(std::size_t number) const {
  const FieldIndex& field = index_.fields[number];
  const FieldOptions& options = field.options;
  const Augment& augment = augments_[number];
  if (!options_.raw_images || mixes_ || options.role != FieldRole::input ||
      !options.log1p.empty() || options.one_hot) {
    return {};
  }
  const DType stored = options.decode.empty() ? field.parts.front().stored.dtype : DType::u8;
  const bool same = std::all_of(field.parts.begin(), field.parts.end(), [&](const auto& part) {
    return !options.decode.empty() || part.stored.dtype == stored;
  });
  const auto type = image_type(stored);
  std::optional<kernels::ImageLayout> layout = augment.image_layout();
  if (!same || !type || !layout) return {};
  const std::int64_t channels = augment.four_axes()[0];
  const bool by_channel = options.mean.size() > 1 || options.std.size() > 1;
  if (by_channel && field.whole_shape.front() != channels) return {};
  layout->type = *type;
  layout->normalises = changes_values(options);
  layout->scale = static_cast<float>(options.scale.value_or(1.0));
  const bool channels_last = options.layout.ends_with('C') && options.decode.empty();
  layout->channel_step = channels_last ? 1 : element_count(augment.four_axes()) / channels;
  ImagePlan plan{.layout = *layout, .samples = {}, .constants = {}};
  const auto constants = [&](const std::vector<double>& list, double otherwise) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
      plan.constants.push_back(
          static_cast<float>(list.empty() ? otherwise : list[list.size() == 1 ? 0 : c]));
    }
  };
  constants(options.mean, 0.0);
  constants(options.std, 1.0);
  plan.constants.insert(plan.constants.end(), augment.beyond().begin(), augment.beyond().end());
  return plan;
}

// Of a sample of a field in a batch.
std::size_t BatchReader::bytes_of(std::size_t number) const {
  const FieldIndex& field = index_.fields[number];
  const std::optional<ImagePlan>& plan = plans_[number];
  if (!plan) {
    return static_cast<std::size_t>(element_count(field.sample_shape) *
                                    size_bytes(field.options.dtype));
  }
  const bool bytes =
      plan->layout.type == kernels::ImageType::u8 || plan->layout.type == kernels::ImageType::i8;
  return static_cast<std::size_t>(plan->layout.stored_elements * (bytes ? 1 : 2));
}

kernels::PixelMap BatchReader::stored_map(std::size_t number) const {
  const FieldOptions& options = index_.fields[number].options;
  return whole_map(augments_[number].four_axes(),
                   options.layout.ends_with('C') && options.decode.empty());
}

// A sample that stays as it is stored.
void BatchReader::fill_raw(std::size_t number, std::int64_t id, std::span<const std::byte> raw,
                           std::span<std::byte> out) const {
  const FieldIndex& field = index_.fields[number];
  if (!field.options.decode.empty()) {
    decode(field, id, raw, as<std::uint8_t>(out));
  } else if (raw.data() != out.data()) {
    std::copy(raw.begin(), raw.end(), out.begin());
  }
}

// Converts one stored sample; `looks`: and looks at its values.
void BatchReader::fill(std::size_t number, std::int64_t id, std::span<const std::byte> raw,
                       std::span<std::byte> out, bool looks) {
  const FieldIndex& field = index_.fields[number];
  const FieldOptions& options = field.options;
  const DType stored = field.parts[field.part_of(id)].stored.dtype;
  if (raw.data() == out.data()) {
    // It was read right there.
  } else if (options.one_hot) {
    as<std::int64_t>(out)[0] = class_of_one_hot(field, id, raw, stored);
  } else if (!options.decode.empty()) {
    thread_local std::vector<std::uint8_t> pixels;
    pixels.resize(out.size() / sizeof(float));
    decode(field, id, raw, pixels);
    kernels::widen(as<float>(out), pixels);
  } else if (const auto fault = convert(raw, stored, out, options.dtype)) {
    throw Error(ErrorKind::data,
                fmt::format("{} holds {} at element {}, which is no {}; set dtype in the config or "
                            "repair the file",
                            field.where(id), fault->value, fault->element, name_of(options.dtype)));
  }
  if (options.dtype == DType::f32) {
    const std::span<float> values = as<float>(out);
    if (options.layout.ends_with('C') && options.decode.empty()) {
      channels_first(values, field.stored_shape.back());
    }
    if (changes_values(options)) {
      normalise(values, options, field.whole_shape.empty() ? 1 : field.whole_shape.front());
    }
    if (!looks) return;
    if (options.role == FieldRole::weight) check_weight(field, id, values);
    if (options_.check_finite == CheckFinite::batch) check_finite(field, id, values);
  } else if (looks && options.dtype == DType::i64 && options.classes > 0) {
    check_labels(field, id, as<std::int64_t>(out));
  }
}

// Samples [first, first + count) of `ids`.
void BatchReader::add(std::span<const std::int64_t> ids, std::size_t first, std::size_t count,
                      std::vector<FieldBatch>& fields, Batch& batch,
                      const std::optional<Draws>& draws) {
  std::vector<std::span<std::byte>> places(fields.size());
  for (std::size_t f = 0; f < fields.size(); ++f) {
    const std::size_t bytes = fields[f].bytes.size() / ids.size();
    if (stored_so_[f]) places[f] = std::span(fields[f].bytes).subspan(first * bytes, count * bytes);
  }
  const RowFetcher::Fetched fetched = fetcher_.fetch(ids.subspan(first, count), places);
  waits_ = fetched.waited > 0;
  for (std::size_t k = 0; k < count; ++k) {
    const std::int64_t id = ids[first + k];
    std::atomic<std::uint64_t>& good = good_[static_cast<std::size_t>(id / 64)];
    const std::uint64_t bit = std::uint64_t{1} << (id % 64);
    const bool looks = (good.load(std::memory_order_relaxed) & bit) == 0;
    try {
      for (std::size_t f = 0; f < fields.size(); ++f) {
        const std::size_t bytes = fields[f].bytes.size() / ids.size();
        const std::span<std::byte> place =
            std::span(fields[f].bytes).subspan(batch.ids.size() * bytes, bytes);
        const Augment& augment = augments_[f];
        if (plans_[f]) {
          fill_raw(f, id, fetched.rows[f][k], place);
          std::vector<kernels::ImageSample>& samples = fields[f].plan->samples;
          samples.resize(batch.ids.size());
          samples.push_back(augment.image(stored_map(f), draws, id));
          continue;
        }
        if (augment.moves()) {
          thread_local std::vector<std::byte> whole;
          whole.resize(static_cast<std::size_t>(element_count(index_.fields[f].whole_shape) *
                                                size_bytes(fields[f].dtype)));
          fill(f, id, fetched.rows[f][k], whole, looks);
          augment.place(whole, place, draws, id);
        } else {
          fill(f, id, fetched.rows[f][k], place, looks);
        }
        if (draws) augment.add_noise(as<float>(place), *draws, id);
      }
      if (looks) good.fetch_or(bit, std::memory_order_relaxed);
      batch.ids.push_back(id);
    } catch (const BadSample& bad) {
      if (options_.on_bad_sample == OnBadSample::stop) {
        throw Error(ErrorKind::data,
                    bad.message + "; set data.on_bad_sample = \"skip\" to leave such samples out");
      }
      log_once(LogLevel::warning, "skipped: " + bad.message);
      ++batch.skipped;
    }
  }
}

Batch BatchReader::read(std::span<const std::int64_t> ids, const std::optional<Draws>& draws) {
  Batch batch;
  std::vector<FieldBatch> fields(index_.fields.size());
  for (std::size_t f = 0; f < fields.size(); ++f) {
    const FieldIndex& field = index_.fields[f];
    fields[f].dtype = field.options.dtype;
    fields[f].bytes.resize(ids.size() * bytes_of(f));
    fields[f].plan = plans_[f];
    if (plans_[f] && !draws) fields[f].plan->layout.noises = 0;
  }
  // Few at a time stay in the core's cache until they are converted and looked at; where the disk
  // must be waited for, all at once.
  const std::int64_t most =
      std::max<std::int64_t>(1, kTogether / std::max<std::int64_t>(1, index_.sample_bytes()));
  for (std::size_t first = 0; first < ids.size();) {
    const std::size_t count =
        waits_ ? ids.size() - first : std::min(ids.size() - first, static_cast<std::size_t>(most));
    add(ids, first, count, fields, batch, draws);
    first += count;
  }
  for (std::size_t f = 0; f < fields.size(); ++f) {
    const FieldIndex& field = index_.fields[f];
    if (!ids.empty())
      fields[f].bytes.resize(fields[f].bytes.size() / ids.size() * batch.ids.size());
    if (fields[f].plan) fields[f].plan->samples.resize(static_cast<std::size_t>(batch.count()));
    fields[f].shape = {batch.count()};
    fields[f].shape.insert(fields[f].shape.end(), field.sample_shape.begin(),
                           field.sample_shape.end());
    group_of(batch, field.options.role).push_back(std::move(fields[f]));
  }
  if (draws && mixes_) mix_batch(batch, index_, *draws);
  return batch;
}

}  // namespace hadal::io
