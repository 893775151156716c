// The kernels that stream through a device's memory against its own copies of as many bytes:
//
//     benchmark_device_kernels [cuda|twin] [MIB] [ROUNDS]
//
// MIB: of one array of float32. Kernel and copy alternate; each is queued ten times and timed as a
// whole. Prints medians of the kernel's bytes per second, and of the ratio to the copy's within a
// round (least to most).
#include <fmt/format.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "engine/device/device_array.hpp"
#include "engine/median.hpp"
#include "engine/stopwatch.hpp"
#include "io/error.hpp"
#include "kernels/adamw.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/canonical_sum.hpp"
#include "kernels/content_hash.hpp"
#include "kernels/norm.hpp"
#include "kernels/sgd.hpp"

using namespace hadal;
using engine::Device;

namespace {

constexpr int kTimes = 10;
constexpr auto kLane = Device::Lane::compute;

struct Operation {
  std::string name;
  double bytes = 0;  // an element
  std::function<void()> queue;
};

double seconds_of(Device& device, const std::function<void()>& queue) {
  device.finish(kLane);
  const engine::Stopwatch watch;
  for (int i = 0; i < kTimes; ++i) queue();
  device.finish(kLane);
  return watch.seconds() / kTimes;
}

void run(Device& device, std::size_t elements, int rounds) {
  std::vector<engine::DeviceArray<float>> arrays;
  for (int i = 0; i < 9; ++i) arrays.emplace_back(device, elements);
  const engine::DeviceArray<std::uint16_t> halves(device, elements);
  std::vector<kernels::Block> blocks;
  for (std::size_t begin = 0; begin < elements; begin += kernels::kNormBlock) {
    const auto count = std::min<std::size_t>(kernels::kNormBlock, elements - begin);
    const auto place = static_cast<std::int64_t>(begin);
    blocks.push_back({place, place, static_cast<std::int32_t>(count), 0});
  }
  const engine::DeviceArray<kernels::Block> table(device, blocks.size());
  device.copy_now(table.bytes(), std::as_bytes(std::span(blocks)));
  const kernels::BlockTable all{table.data(), static_cast<std::int64_t>(blocks.size())};
  const engine::DeviceArray<double> sums(device, blocks.size());
  const engine::DeviceArray<std::uint64_t> hash(device, 1);
  const kernels::UpdateRow<kernels::AdamwStep> adamw{.step = kernels::adamw_step({}, 1, 1)};
  const kernels::UpdateRow<kernels::SgdStep> sgd{.step = {.lr = 1e-3f, .momentum = 0.9f}};
  const engine::DeviceArray<kernels::UpdateRow<kernels::AdamwStep>> adamw_rows(device, 1);
  const engine::DeviceArray<kernels::UpdateRow<kernels::SgdStep>> sgd_rows(device, 1);
  device.copy_now(adamw_rows.bytes(), std::as_bytes(std::span(&adamw, 1)));
  device.copy_now(sgd_rows.bytes(), std::as_bytes(std::span(&sgd, 1)));
  kernels::UpdateMemory memory{.param = arrays[0].data(),
                               .grad = arrays[1].data(),
                               .first = arrays[2].data(),
                               .second = arrays[3].data()};
  kernels::UpdateMemory with_copy = memory;
  with_copy.rounded = halves.data();
  const auto sum_of = [&](int sources) {
    kernels::SumProgram program{.length = 2 * sources - 1};
    for (int s = 0; s < sources; ++s) {
      program.sources[s] = arrays[static_cast<std::size_t>(s)].data();
    }
    // ((a + b) + c) + …
    for (int bit = 2; bit < program.length; bit += 2) program.adds |= std::uint64_t{1} << bit;
    return program;
  };
  const kernels::Stream stream = device.stream(kLane);
  const std::span<float> last = arrays[8].span();
  const std::vector<Operation> operations{
      {"sum of 2", 12, [&] { kernels::run_sum(stream, sum_of(2), last); }},
      {"sum of 8", 36, [&] { kernels::run_sum(stream, sum_of(8), last); }},
      {"AdamW", 28, [&] { kernels::adamw(stream, all, memory, adamw_rows.data()); }},
      {"AdamW, and a copy in bfloat16", 30,
       [&] { kernels::adamw(stream, all, with_copy, adamw_rows.data()); }},
      {"SGD with momentum", 20, [&] { kernels::sgd(stream, all, memory, sgd_rows.data()); }},
      {"sums of squares", 4,
       [&] { kernels::sums_of_squares(stream, all, arrays[1].data(), sums.data(), 1); }},
      {"to bfloat16", 6, [&] { kernels::to_bfloat16(stream, halves.span(), arrays[1].span()); }},
      {"hash", 4, [&] { kernels::content_hash(stream, arrays[1].span(), hash.data()); }}};
  fmt::print("{}, arrays of {} MiB, medians of {} rounds\n", device.name(),
             elements * sizeof(float) >> 20, rounds);
  const double count = static_cast<double>(elements);
  const auto copy = [&] { device.copy(kLane, arrays[7].bytes(), arrays[6].bytes()); };
  for (const Operation& operation : operations) {
    std::vector<double> speeds, ratios;
    for (int round = -1; round < rounds; ++round) {
      const double copied = 8 * count / seconds_of(device, copy);
      const double moved = operation.bytes * count / seconds_of(device, operation.queue);
      if (round < 0) continue;  // the first one warms up
      speeds.push_back(moved);
      ratios.push_back(moved / copied);
    }
    std::sort(ratios.begin(), ratios.end());
    fmt::print("{:<30} {:9.1f} GB/s, {:.2f} of a copy ({:.2f} to {:.2f})\n", operation.name,
               engine::median(speeds) / 1e9, engine::median(ratios), ratios.front(), ratios.back());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "cuda";
  const std::size_t mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 30;
  try {
    const auto device = engine::open_device(
        {kind == "twin" ? engine::DeviceKind::twin : engine::DeviceKind::cuda, 0}, {});
    run(*device, (mib << 20) / sizeof(float), rounds);
  } catch (const io::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}
