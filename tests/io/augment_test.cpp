#include "io/augment.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "io/batch_reader.hpp"
#include "io/hdf5_writer.hpp"
#include "io/mixing.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/image.hpp"

using namespace hadal;
using Kind = io::TransformKind;
using tests::image;

namespace {

std::vector<float> counted(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}

// What becomes of 1, 2, 3, … in this shape.
std::vector<float> placed(const io::FieldOptions& options, const io::Shape& shape,
                          const std::optional<io::Draws>& draws, std::int64_t id = 0) {
  std::string fault;
  const io::Shape behind = io::augmented_shape(options, shape, fault);
  REQUIRE(fault.empty());
  const std::vector<float> sample = counted(io::element_count(shape));
  std::vector<float> out(static_cast<std::size_t>(io::element_count(behind)));
  io::Augment(options, shape)
      .place(std::as_bytes(std::span(sample)), std::as_writable_bytes(std::span(out)), draws, id);
  return out;
}

// How often each outcome comes over many samples; all must be expected, and about equally often.
void require_evenly(const io::FieldOptions& options, const io::Shape& shape,
                    const std::set<std::vector<float>>& expected) {
  constexpr std::int64_t kDraws = 4000;
  std::map<std::vector<float>, double> counts;
  for (std::int64_t id = 0; id < kDraws; ++id)
    ++counts[placed(options, shape, io::Draws{1, 2}, id)];
  const double mean = static_cast<double>(kDraws) / static_cast<double>(expected.size());
  for (const auto& [outcome, count] : counts) {
    REQUIRE(expected.contains(outcome));
    REQUIRE(std::abs(count - mean) < 5 * std::sqrt(mean));
  }
  REQUIRE(counts.size() == expected.size());
}

std::string fault_of(const io::FieldOptions& options, const io::Shape& shape) {
  std::string fault;
  io::augmented_shape(options, shape, fault);
  return fault;
}

// 40 images [2, 6, 6] of their number and place, and their number modulo 4.
io::DataIndex data(const tests::TemporaryFolder& folder, const io::FieldOptions& input,
                   io::DType target = io::DType::i64) {
  const std::filesystem::path file = folder / "images.h5";
  io::Hdf5ShardWriter writer(file, {{"/x", io::DType::f32, {2, 6, 6}}, {"/y", io::DType::i64, {}}},
                             40);
  for (std::int64_t row = 0; row < 40; ++row) {
    std::vector<float> x = counted(72);
    for (float& value : x) value += static_cast<float>(100 * row);
    const std::int64_t y = row % 4;
    writer.append({std::as_bytes(std::span(x)), std::as_bytes(std::span(&y, 1))});
  }
  writer.close();
  io::FieldOptions label{
      .name = "label", .role = io::FieldRole::target, .path = "/y", .files = {}, .dtype = target};
  if (target == io::DType::i64) label.classes = 4;
  std::vector<std::vector<io::ScannedDataset>> scans;
  for (const char* name : {"/x", "/y"}) scans.push_back(io::scan_file(file, {name}).front());
  return io::build_index({input, label}, scans);
}

std::span<const float> floats(const io::FieldBatch& field) {
  return {reinterpret_cast<const float*>(field.bytes.data()), field.bytes.size() / sizeof(float)};
}

}  // namespace

TEST_CASE("crops, flips and turns give every outcome, about equally often, and no other") {
  const auto at = [](std::int64_t c, std::int64_t y, std::int64_t x) {
    const bool inside = y >= 0 && y < 3 && x >= 0 && x < 4;
    return inside ? static_cast<float>((c * 3 + y) * 4 + x + 1) : 0.0f;
  };
  std::set<std::vector<float>> expected;
  for (std::int64_t top = -1; top <= 2; ++top) {
    for (std::int64_t left = -1; left <= 2; ++left) {
      std::vector<float> out;
      for (std::int64_t c = 0; c < 2; ++c) {
        for (std::int64_t y = 0; y < 2; ++y) {
          for (std::int64_t x = 0; x < 3; ++x) out.push_back(at(c, top + y, left + x));
        }
      }
      expected.insert(out);
    }
  }
  require_evenly(image({{.kind = Kind::crop, .size = {2, 3}, .padding = 1}}), {2, 3, 4}, expected);

  expected.clear();
  for (const bool down : {false, true}) {
    for (const bool across : {false, true}) {
      std::vector<float> out;
      for (std::int64_t c = 0; c < 2; ++c) {
        for (std::int64_t y = 0; y < 3; ++y) {
          for (std::int64_t x = 0; x < 4; ++x)
            out.push_back(at(c, down ? 2 - y : y, across ? 3 - x : x));
        }
      }
      expected.insert(out);
    }
  }
  require_evenly(image({{.kind = Kind::flip, .size = {}, .axes = "HW"}}), {2, 3, 4}, expected);

  require_evenly(image({{.kind = Kind::rotate}}), {1, 2, 2},
                 {{1, 2, 3, 4}, {2, 4, 1, 3}, {4, 3, 2, 1}, {3, 1, 4, 2}});
  require_evenly(image({{.kind = Kind::rotate}}), {1, 1, 3}, {{1, 2, 3}, {3, 2, 1}});
  // Of a volume, the axis in front.
  io::FieldOptions volume = image({{.kind = Kind::flip, .size = {}, .axes = "D"}});
  require_evenly(volume, {1, 2, 1, 2}, {{1, 2, 3, 4}, {3, 4, 1, 2}});
  // Of a signal.
  require_evenly(image({{.kind = Kind::crop, .size = {2}}}), {3}, {{1, 2}, {2, 3}});
}

TEST_CASE("a resized crop of a plane with a slope is a slope of its own range") {
  const io::FieldOptions options = image({{.kind = Kind::resized_crop, .size = {5, 7}}});
  for (std::int64_t id = 0; id < 300; ++id) {
    const std::vector<float> out = placed(options, {1, 20, 30}, io::Draws{3, 0}, id);
    REQUIRE(std::is_sorted(out.begin(), out.begin() + 7));
    REQUIRE(out.front() >= 1);
    REQUIRE(out.back() <= 600);
    REQUIRE(out[7] - out[0] >= 0);
  }
  // All of it in its own size is itself.
  const io::FieldOptions whole = image({{.kind = Kind::resized_crop,
                                         .size = {},
                                         .least_area = 1,
                                         .least_aspect = 1.5,
                                         .most_aspect = 1.5}});
  const std::vector<float> same = placed(whole, {1, 20, 30}, io::Draws{3, 0});
  const std::vector<float> sample = counted(600);
  for (std::size_t i = 0; i < same.size(); ++i) REQUIRE(std::abs(same[i] - sample[i]) < 1e-3f);
}

TEST_CASE("an evaluation takes the middle, and nothing by chance") {
  const io::FieldOptions options =
      image({{.kind = Kind::flip}, {.kind = Kind::crop, .size = {2, 2}}, {.kind = Kind::rotate}});
  REQUIRE(placed(options, {1, 4, 4}, std::nullopt) == std::vector<float>{6, 7, 10, 11});
}

TEST_CASE("an image and its mask are moved alike, and what lies beyond is ignored") {
  const std::vector<io::Transform> list{{.kind = Kind::crop, .size = {}, .padding = 2},
                                        {.kind = Kind::flip, .size = {}, .axes = "HW"},
                                        {.kind = Kind::rotate},
                                        {.kind = Kind::resized_crop, .size = {4, 4}}};
  io::FieldOptions mask{.name = "mask",
                        .role = io::FieldRole::target,
                        .path = "/m",
                        .files = {},
                        .dtype = io::DType::i64,
                        .augment = {list.begin(), list.begin() + 3},
                        .classes = 100};
  const io::FieldOptions picture = image(mask.augment);
  std::vector<std::int64_t> labels(36);
  std::iota(labels.begin(), labels.end(), std::int64_t{1});
  for (std::int64_t id = 0; id < 50; ++id) {
    const std::vector<float> moved = placed(picture, {1, 6, 6}, io::Draws{9, 4}, id);
    std::vector<std::int64_t> found(36);
    io::Augment(mask, {6, 6})
        .place(std::as_bytes(std::span(labels)), std::as_writable_bytes(std::span(found)),
               io::Draws{9, 4}, id);
    for (std::size_t i = 0; i < 36; ++i) {
      REQUIRE(found[i] == (moved[i] == 0 ? -100 : static_cast<std::int64_t>(moved[i])));
    }
  }
}

TEST_CASE(
    "batches hold the same bits in any company, others in another epoch or with another seed") {
  const tests::TemporaryFolder folder;
  io::FieldOptions options = image({{.kind = Kind::crop, .size = {4, 4}, .padding = 1},
                                    {.kind = Kind::flip},
                                    {.kind = Kind::noise, .size = {}, .deviation = 0.1}});
  options.scale = 0.5;
  options.mean = {1, 2};
  options.std = {3, 4};
  const io::DataIndex index = data(folder, options);
  REQUIRE(index.fields[0].sample_shape == io::Shape{2, 4, 4});
  io::BatchReader reader(index, {});
  const io::Draws draws{7, 3};
  std::vector<std::int64_t> ids(40);
  std::iota(ids.begin(), ids.end(), std::int64_t{0});
  const io::Batch all = reader.read(ids, draws);
  for (const std::int64_t id : {39, 0, 17}) {
    const io::Batch one = reader.read(std::vector<std::int64_t>{id}, draws);
    const std::span<const float> own = floats(one.inputs[0]);
    REQUIRE(std::equal(own.begin(), own.end(), floats(all.inputs[0]).begin() + 32 * id));
  }
  const auto differs = [&](const io::Draws& others) {
    const io::Batch other = reader.read(ids, others);
    return !std::equal(other.inputs[0].bytes.begin(), other.inputs[0].bytes.end(),
                       all.inputs[0].bytes.begin());
  };
  REQUIRE(differs({7, 4}));
  REQUIRE(differs({8, 3}));
  REQUIRE_FALSE(differs({7, 3}));
}

TEST_CASE("mixed samples are what their labels say") {
  const tests::TemporaryFolder folder;
  const io::DataIndex index =
      data(folder, image({{.kind = Kind::mixup, .size = {}, .alpha = 0.4}}));
  io::BatchReader reader(index, {});
  std::vector<std::int64_t> ids{5, 8, 30, 3, 18};
  double kept_sum = 0, kept_squares = 0;
  constexpr int kEpochs = 2000;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const io::Batch batch = reader.read(ids, io::Draws{1, epoch});
    REQUIRE(batch.targets[0].shape == io::Shape{5, 4});
    REQUIRE(batch.targets[0].dtype == io::DType::f32);
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const std::int64_t own = ids[k], other = ids[(k + 1) % ids.size()];
      const float* const shares = floats(batch.targets[0]).data() + 4 * k;
      const float kept = shares[own % 4];
      if (own % 4 == other % 4) continue;
      REQUIRE(std::abs(shares[other % 4] - (1 - kept)) < 1e-6f);
      const float* const values = floats(batch.inputs[0]).data() + 72 * k;
      const float wanted =
          static_cast<float>(100 * own) * kept + static_cast<float>(100 * other) * (1 - kept) + 1;
      REQUIRE(std::abs(values[0] - wanted) < 0.01f);
      if (k == 0) kept_sum += kept, kept_squares += static_cast<double>(kept) * kept;
    }
  }
  // Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
  const double mean = kept_sum / kEpochs, variance = kept_squares / kEpochs - mean * mean;
  REQUIRE(std::abs(mean - 0.5) < 0.04);
  REQUIRE(std::abs(variance - 1 / (4 * 1.8)) < 0.01);
  // Evaluations are not mixed.
  REQUIRE(reader.read(ids).targets[0].dtype == io::DType::i64);
}

TEST_CASE("a cut of another sample weighs what it covers") {
  const tests::TemporaryFolder folder;
  const io::DataIndex index = data(folder, image({{.kind = Kind::cutmix}}));
  io::BatchReader reader(index, {});
  const std::vector<std::int64_t> ids{5, 8, 30};
  std::set<float> kept;
  for (int epoch = 0; epoch < 200; ++epoch) {
    const io::Batch batch = reader.read(ids, io::Draws{1, epoch});
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const std::int64_t own = ids[k], other = ids[(k + 1) % ids.size()];
      const std::span<const float> values = floats(batch.inputs[0]).subspan(72 * k, 72);
      std::int64_t from_own = 0;
      for (std::size_t i = 0; i < 72; ++i) {
        const float place = static_cast<float>(i + 1);
        const bool is_own = values[i] == place + static_cast<float>(100 * own);
        REQUIRE((is_own || values[i] == place + static_cast<float>(100 * other)));
        if (is_own) ++from_own;
      }
      const float share = floats(batch.targets[0])[4 * k + static_cast<std::size_t>(own % 4)];
      REQUIRE(std::abs(share - static_cast<float>(from_own) / 72) < 1e-6f);
      kept.insert(share);
    }
  }
  REQUIRE(kept.size() > 10);
}

TEST_CASE("transforms that do not fit the data are refused") {
  using tests::contains;
  REQUIRE(contains(fault_of(image({{.kind = Kind::crop, .size = {7, 7}}}), {1, 6, 6}),
                   "[7, 7] is larger than samples of shape [1, 6, 6]"));
  REQUIRE(contains(fault_of(image({{.kind = Kind::crop, .size = {7}}}), {1, 6, 6}),
                   "2 spatial axes (CHW)"));
  REQUIRE(contains(fault_of(image({{.kind = Kind::flip}}), {}), "no axes to move"));
  REQUIRE(contains(fault_of(image({{.kind = Kind::flip, .size = {}, .axes = "C"}}), {1, 6, 6}),
                   "flip of the axis C"));
  REQUIRE(contains(fault_of(image({{.kind = Kind::rotate}}), {6}), "no height and width"));
  REQUIRE(
      contains(fault_of(image({{.kind = Kind::resized_crop}}), {1, 6, 6, 6}), "not for volumes"));
  const tests::TemporaryFolder folder;
  const auto refusal = [&](const io::FieldOptions& input) {
    return tests::error_of(io::ErrorKind::data, [&] { data(folder, input); });
  };
  io::FieldOptions channels = image({});
  channels.log1p = {2};
  REQUIRE(contains(refusal(channels), "log1p of channel 2"));
}
