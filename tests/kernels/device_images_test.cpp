// Images that a GPU makes, or its twin on the host, have the bits of the host's.
#include <cstring>
#include <random>
#include <vector>

#include "io/augment.hpp"
#include "io/map_moves.hpp"
#include "kernels/images.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/devices.hpp"

using namespace hadal;
using engine::Device;
using tests::Mirror;
using tests::on_every_device;

TEST_CASE("a GPU's images have the CPU's bits") {
  using Kind = io::TransformKind;
  constexpr std::int64_t kImages = 5;
  const io::Shape shape{3, 40, 44};
  io::FieldOptions options{.name = "image", .files = {}, .dtype = io::DType::f32, .augment = {}};
  options.scale = 1.0 / 255;
  options.mean = {0.48, 0.45, 0.4};
  options.std = {0.22, 0.23, 0.225};
  for (const bool resizes : {false, true}) {
    options.augment = {{.kind = Kind::crop, .padding = 4}, {.kind = Kind::flip, .axes = "HW"}};
    if (resizes) options.augment.push_back({.kind = Kind::resized_crop, .size = {24, 20}});
    options.augment.push_back({.kind = Kind::noise, .deviation = 0.2});
    const io::Augment augment(options, shape);
    kernels::ImageLayout layout = augment.image_layout().value();
    layout.normalises = true;
    layout.scale = static_cast<float>(*options.scale);
    layout.channel_step = shape[1] * shape[2];
    std::vector<float> constants;
    for (const auto* list : {&options.mean, &options.std}) {
      for (const double value : *list) constants.push_back(static_cast<float>(value));
    }
    constants.insert(constants.end(), augment.beyond().begin(), augment.beyond().end());
    std::vector<std::uint8_t> stored(static_cast<std::size_t>(kImages * io::element_count(shape)));
    std::mt19937 engine(4);
    for (std::uint8_t& value : stored) value = static_cast<std::uint8_t>(engine());
    std::vector<kernels::ImageSample> samples;
    for (std::int64_t id = 0; id < kImages; ++id) {
      samples.push_back(augment.image(io::whole_map(augment.four_axes(), /*channels_last=*/false),
                                      io::Draws{1, 2}, id));
    }
    const std::int64_t each = std::int64_t{3} * layout.size[1] * layout.size[2];
    std::vector<float> expected(static_cast<std::size_t>(kImages * each));
    kernels::make_images(kernels::Stream::host(), layout, kImages,
                         std::as_bytes(std::span(stored)).data(), samples.data(), constants.data(),
                         expected.data());
    on_every_device([&](Device& device, kernels::Stream stream) {
      std::vector<float> made(expected.size());
      Mirror there(device, made);
      kernels::make_images(
          stream, layout, kImages, std::as_bytes(Mirror(device, stored).span()).data(),
          Mirror(device, samples).data(), Mirror(device, constants).data(), there.data());
      there.fetch();
      REQUIRE(std::memcmp(made.data(), expected.data(), made.size() * sizeof made[0]) == 0);
    });
  }
}
