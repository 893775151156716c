// Images that a reader leaves as they are stored become, by kernels/images.hpp, bit for bit what it
// makes of them otherwise.

#include <cstring>

#include "io/batch_reader.hpp"
#include "io/hdf5_writer.hpp"
#include "io/sample_order.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/image.hpp"

using namespace hadal;
using Kind = io::TransformKind;
using tests::image;

namespace {

constexpr std::int64_t kRows = 12;

io::DataIndex data(const tests::TemporaryFolder& folder, const io::FieldOptions& input,
                   io::DType type, const io::Shape& shape) {
  const std::filesystem::path file = folder / "images.h5";
  io::Hdf5ShardWriter writer(file, {{"/x", type, shape}, {"/y", io::DType::i64, {}}}, kRows);
  std::uint64_t drawn = 0;
  for (std::int64_t row = 0; row < kRows; ++row) {
    std::vector<std::byte> x(static_cast<std::size_t>(io::element_count(shape) * size_bytes(type)));
    for (std::byte& value : x) value = static_cast<std::byte>(io::mix(5, ++drawn) & 0xff);
    const std::int64_t y = row % 4;
    writer.append({x, std::as_bytes(std::span(&y, 1))});
  }
  writer.close();
  const io::FieldOptions label{.name = "label",
                               .role = io::FieldRole::target,
                               .path = "/y",
                               .files = {},
                               .dtype = io::DType::i64,
                               .classes = 4};
  std::vector<std::vector<io::ScannedDataset>> scans;
  for (const char* name : {"/x", "/y"}) scans.push_back(io::scan_file(file, {name}).front());
  return io::build_index({input, label}, scans);
}

// What the plan of a batch makes of its first input.
std::vector<float> carried_out(const io::Batch& batch) {
  const io::FieldBatch& field = batch.inputs.front();
  REQUIRE(field.plan);
  std::vector<float> out(static_cast<std::size_t>(io::element_count(field.shape)));
  kernels::make_images(kernels::Stream::host(), field.plan->layout, batch.count(),
                       field.bytes.data(), field.plan->samples.data(), field.plan->constants.data(),
                       out.data());
  return out;
}

void require_same(const io::DataIndex& index) {
  io::BatchReader plain(index, {}), raw(index, {.raw_images = true});
  const std::vector<std::int64_t> ids{3, 0, 11, 7, 7, 5};
  for (const std::optional<io::Draws>& draws :
       {std::optional<io::Draws>(), std::optional(io::Draws{1, 2}),
        std::optional(io::Draws{1, 3})}) {
    const io::Batch expected = plain.read(ids, draws);
    const io::Batch left = raw.read(ids, draws);
    REQUIRE(left.inputs.front().shape == expected.inputs.front().shape);
    REQUIRE(left.targets.front().bytes.size() == expected.targets.front().bytes.size());
    const std::vector<float> made = carried_out(left);
    REQUIRE(made.size() * sizeof(float) == expected.inputs.front().bytes.size());
    REQUIRE(std::memcmp(made.data(), expected.inputs.front().bytes.data(),
                        made.size() * sizeof(float)) == 0);
  }
}

}  // namespace

TEST_CASE("raw images become what a reader makes of them") {
  const io::Transform crop{.kind = Kind::crop, .padding = 3};
  const io::Transform small{.kind = Kind::crop, .size = {7, 9}, .padding = 2};
  const io::Transform flip{.kind = Kind::flip, .axes = "HW"};
  const io::Transform turn{.kind = Kind::rotate};
  const io::Transform noise{.kind = Kind::noise, .deviation = 0.3};
  const io::Transform resized{.kind = Kind::resized_crop, .size = {10, 8}, .least_area = 0.1};
  const io::Transform grown{.kind = Kind::resized_crop, .size = {11, 12}, .least_area = 0.05};
  const std::vector<std::vector<io::Transform>> lists{{},
                                                      {crop},
                                                      {small},
                                                      {flip},
                                                      {turn},
                                                      {noise},
                                                      {crop, flip, turn, small, noise},
                                                      {resized},
                                                      {grown, noise, noise},
                                                      {turn, small, flip},
                                                      {crop, resized, turn, flip},
                                                      {flip, resized, small}};
  for (const io::DType type : {io::DType::u8, io::DType::i8, io::DType::u16, io::DType::i16}) {
    for (const bool channels_last : {false, true}) {
      for (std::size_t list = 0; list < lists.size(); ++list) {
        for (const io::Shape& extents : {io::Shape{12, 12}, io::Shape{12, 15}}) {
          CAPTURE(io::name_of(type), channels_last, list, extents[1]);
          const tests::TemporaryFolder folder;
          io::FieldOptions options = image(lists[list]);
          options.scale = 1.0 / 255;
          options.mean = {0.48, 0.45, 0.4};
          options.std = {0.22, 0.23, 0.225};
          if (channels_last) options.layout = "NHWC";
          require_same(data(folder, options, type,
                            channels_last ? io::Shape{extents[0], extents[1], 3}
                                          : io::Shape{3, extents[0], extents[1]}));
        }
      }
    }
  }
}

TEST_CASE("raw images without scaling, of one channel, in planes and in volumes") {
  const io::Transform flip{.kind = Kind::flip, .axes = "DW"};
  const io::Transform crop{.kind = Kind::crop, .size = {4, 5, 6}, .padding = 1};
  const tests::TemporaryFolder folder;
  SECTION("nothing is done to the values") {
    require_same(data(folder, image({}), io::DType::u8, {1, 9, 9}));
  }
  SECTION("one mean for all channels") {
    io::FieldOptions options = image({{.kind = Kind::flip}});
    options.mean = {100};
    require_same(data(folder, options, io::DType::u8, {2, 9, 9}));
  }
  SECTION("a line") {
    require_same(data(folder, image({{.kind = Kind::noise, .deviation = 1}}), io::DType::i16, {9}));
  }
  SECTION("a volume") {
    io::FieldOptions options = image({flip, crop});
    options.layout = "NCDHW";
    require_same(data(folder, options, io::DType::u16, {2, 6, 6, 7}));
  }
}

TEST_CASE("what is no image of whole numbers does not stay raw") {
  const auto stays_raw = [](const io::FieldOptions& options, io::DType type,
                            const io::Shape& shape) {
    const tests::TemporaryFolder folder;
    const io::DataIndex index = data(folder, options, type, shape);
    io::BatchReader reader(index, {.raw_images = true});
    const std::vector<std::int64_t> ids{0};
    return reader.read(ids).inputs.front().plan.has_value();
  };
  REQUIRE(stays_raw(image({}), io::DType::u8, {3, 8, 8}));
  REQUIRE_FALSE(stays_raw(image({}), io::DType::f32, {3, 8, 8}));
  REQUIRE_FALSE(stays_raw(image({}), io::DType::u8, {8, 1, 1}));
  io::FieldOptions logarithms = image({});
  logarithms.log1p = {0};
  REQUIRE_FALSE(stays_raw(logarithms, io::DType::u8, {3, 8, 8}));
  const io::Transform resized{.kind = Kind::resized_crop, .size = {6, 6}};
  REQUIRE_FALSE(stays_raw(image({resized, resized}), io::DType::u8, {3, 8, 8}));
  REQUIRE_FALSE(stays_raw(image({{.kind = Kind::mixup}}), io::DType::u8, {3, 8, 8}));
  REQUIRE_FALSE(
      stays_raw(image({{.kind = Kind::resized_crop, .size = {2, 2}}}), io::DType::u8, {3, 80, 80}));
}
