#include "launch/inspect_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/dataset.hpp"
#include "engine/labels.hpp"
#include "engine/plan.hpp"
#include "io/batch_reader.hpp"
#include "io/error.hpp"
#include "io/image.hpp"
#include "io/sample_order.hpp"
#include "launch/config.hpp"

namespace hadal::launch {
namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kSheet = 8;      // images on a side
constexpr std::int64_t kTileSide = 64;  // pixels, at least

io::DataIndex only(const io::DataIndex& data, std::size_t field) {
  io::DataIndex one;
  one.fields = {data.fields[field]};
  one.samples = data.samples;
  return one;
}

// Most and fewest, in words.
std::string balance_text(const engine::LabelCounts& counts) {
  if (counts.empty()) return "no labels";
  const auto by_count = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end(), by_count);
  return fmt::format("{} classes; class {} has {}, class {} has {}", counts.size(), most->first,
                     most->second, least->first, least->second);
}

// The first images as a network is trained on them, in one. Of all other inputs, none.
io::Image contact_sheet(const LoadedConfig& config, const io::DataIndex& data) {
  const auto field =
      std::find_if(data.fields.begin(), data.fields.end(), [](const io::FieldIndex& f) {
        const io::Shape& shape = f.sample_shape;
        const bool is_image =
            shape.size() == 2 || (shape.size() == 3 && (shape[0] == 1 || shape[0] == 3));
        return f.options.role == io::FieldRole::input && f.options.dtype == io::DType::f32 &&
               is_image;
      });
  if (field == data.fields.end()) {
    throw io::Error(io::ErrorKind::usage,
                    "there is nothing to draw: no input has samples [height, width], or [1 or 3, "
                    "height, width]");
  }
  const engine::RunConfig& run = config.run;
  const io::SampleOrder order(engine::order_options(run, data));
  const std::int64_t steps = (kSheet * kSheet - 1) / run.train.global_batch + 1;
  std::vector<std::int64_t> ids = order.first_samples(steps);
  ids.resize(std::min<std::size_t>(ids.size(), kSheet * kSheet));
  const io::DataIndex one = only(data, static_cast<std::size_t>(field - data.fields.begin()));
  io::BatchReader reader(one, run.data.batch);
  const io::Batch batch = reader.read(ids, io::Draws{run.run.seed, 0});
  const std::span<const float> values(reinterpret_cast<const float*>(batch.inputs[0].bytes.data()),
                                      batch.inputs[0].bytes.size() / sizeof(float));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const float range = std::max(*most - *least, 1e-30f);
  const io::Shape& shape = field->sample_shape;
  const std::int64_t channels = shape.size() == 3 ? shape[0] : 1;
  const std::int64_t height = shape[shape.size() - 2], width = shape.back();
  const std::int64_t scale = std::max<std::int64_t>(1, kTileSide / std::max(height, width));
  const std::int64_t tile_height = height * scale + 2, tile_width = width * scale + 2;
  io::Image sheet{.shape = {channels, kSheet * tile_height, kSheet * tile_width}, .pixels = {}};
  sheet.pixels.assign(static_cast<std::size_t>(io::element_count(sheet.shape)), 255);
  for (std::int64_t k = 0; k < batch.count(); ++k) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t y = 0; y < height * scale; ++y) {
        for (std::int64_t x = 0; x < width * scale; ++x) {
          const std::int64_t from = ((k * channels + c) * height + y / scale) * width + x / scale;
          const std::int64_t row = k / kSheet * tile_height + y + 1;
          const std::int64_t column = k % kSheet * tile_width + x + 1;
          const float share = (values[static_cast<std::size_t>(from)] - *least) / range;
          sheet.pixels[static_cast<std::size_t>((c * sheet.shape[1] + row) * sheet.shape[2] +
                                                column)] =
              static_cast<std::uint8_t>(std::lround(255 * share));
        }
      }
    }
  }
  return sheet;
}

}  // namespace

ordered_json inspect_config(const std::filesystem::path& path, const std::filesystem::path& samples,
                            bool quiet) {
  const LoadedConfig config = load_config(path, {});
  const auto comm = engine::solo_communicator();
  const io::DataIndex data = engine::open_dataset(*comm, config.run.data, engine::Split::train);
  ordered_json document = {{"config", path.string()},
                           {"kind", "config"},
                           {"samples", data.samples},
                           {"fields", ordered_json::array()}};
  if (!quiet) fmt::print("{}: {} training samples\n", path.string(), data.samples);
  for (std::size_t f = 0; f < data.fields.size(); ++f) {
    const io::FieldIndex& field = data.fields[f];
    ordered_json entry = {{"name", field.options.name},
                          {"path", field.options.path},
                          {"stored", io::name_of(field.stored_dtype)},
                          {"shape", field.sample_shape}};
    std::string line =
        fmt::format("  {:<16} {} as {} {}", field.options.name, field.options.path,
                    io::name_of(field.options.dtype), io::to_string(field.sample_shape));
    const bool has_labels =
        field.options.role == io::FieldRole::target && field.options.dtype == io::DType::i64;
    if (has_labels) {
      std::vector<std::int64_t> all(static_cast<std::size_t>(data.samples));
      std::iota(all.begin(), all.end(), std::int64_t{0});
      const engine::LabelCounts counts = engine::count_labels(data, f, all, config.run.data.batch);
      for (const auto& [label, count] : counts) entry["labels"][std::to_string(label)] = count;
      line += "; " + balance_text(counts);
    }
    document["fields"].push_back(std::move(entry));
    if (!quiet) fmt::print("{}\n", line);
  }
  const double decoded = engine::decoding_amplification(config.run, data, 1);
  document["decoding_amplification"] = decoded;
  if (!quiet && decoded > 1.5) {
    fmt::print(
        "  each chunk is decoded {:.1f} times an epoch; raise data.memory, set data.shuffle "
        "= \"block\", or repack with fewer rows a chunk\n",
        decoded);
  }
  if (!samples.empty()) {
    io::write_png(contact_sheet(config, data), samples);
    document["sheet"] = samples.string();
    if (!quiet) fmt::print("  {} shows the first samples\n", samples.string());
  }
  return document;
}

}  // namespace hadal::launch
