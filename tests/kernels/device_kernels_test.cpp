// The kernels of GPUs, as their twin on the host runs them and, where there is one, a GPU, against
// those of CPUs: the same bits.
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/adamw.hpp"
#include "kernels/average.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/canonical_sum.hpp"
#include "kernels/content_hash.hpp"
#include "kernels/lamb.hpp"
#include "kernels/masters.hpp"
#include "kernels/norm.hpp"
#include "kernels/sgd.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/devices.hpp"

using namespace hadal;
using engine::Device;
using tests::Mirror;
using tests::on_every_device;

namespace {

// Three parameters of two settings in blocks that begin at 64 bytes; states lie elsewhere than the
// parameters do.
struct Memory {
  static constexpr std::size_t kArena = 4096 + 4096 + 1008 + 16, kStates = kArena + 32;
  std::vector<kernels::Block> blocks{
      {0, 32, 4096, 0}, {4096, 4128, 4096, 0}, {8192, 8224, 1003, 1}, {9200, 9232, 3, 2}};
  std::vector<float> param, grad, first, second, average;
  std::vector<std::uint16_t> rounded;

  Memory()
      : param(kArena),
        grad(kArena),
        first(kStates),
        second(kStates),
        average(kStates),
        rounded(kArena) {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal(0, 1);
    for (std::vector<float>* values : {&param, &grad, &first, &second, &average}) {
      for (float& value : *values) value = normal(engine);
    }
    for (float& value : second) value = std::fabs(value);
  }
  bool operator==(const Memory& other) const {
    const auto same = [](const auto& a, const auto& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
    };
    return same(param, other.param) && same(first, other.first) && same(second, other.second) &&
           same(average, other.average) && same(rounded, other.rounded);
  }

  // visit(block, param, grad, first, second), then what comes behind an update.
  template <class Visit>
  void by_block(Visit visit) {
    for (const kernels::Block& block : blocks) {
      const auto arena = [&](auto& values) {
        return std::span(values).subspan(static_cast<std::size_t>(block.offset),
                                         static_cast<std::size_t>(block.count));
      };
      const auto state = [&](std::vector<float>& values) {
        return std::span(values).subspan(static_cast<std::size_t>(block.state),
                                         static_cast<std::size_t>(block.count));
      };
      if (!visit(block, arena(param), arena(grad), state(first), state(second))) continue;
      kernels::to_bfloat16(arena(rounded), arena(param));
      kernels::move_average(state(average), arena(param), 0.01f);
    }
  }
};

using Floats = std::span<float>;

// The memory on a device.
struct There {
  Memory& memory;
  Mirror<kernels::Block> blocks;
  Mirror<float> param, grad, first, second, average;
  Mirror<std::uint16_t> rounded;

  There(Device& device, Memory& m)
      : memory(m),
        blocks(device, m.blocks),
        param(device, m.param),
        grad(device, m.grad),
        first(device, m.first),
        second(device, m.second),
        average(device, m.average),
        rounded(device, m.rounded) {}
  kernels::BlockTable table() const {
    return {blocks.data(), static_cast<std::int64_t>(memory.blocks.size())};
  }
  kernels::UpdateMemory update() const {
    return {.param = param.data(),
            .grad = grad.data(),
            .first = first.data(),
            .second = second.data(),
            .average = average.data(),
            .average_rate = 0.01f,
            .rounded = rounded.data()};
  }
  void fetch() {
    for (Mirror<float>* values : {&param, &first, &second, &average}) values->fetch();
    rounded.fetch();
  }
};

}  // namespace

TEST_CASE("a GPU's adamw has the CPU's bits") {
  std::vector<kernels::UpdateRow<kernels::AdamwStep>> rows;
  for (const double lr : {1e-2, 3e-3, 1.0}) {
    rows.push_back({.step = kernels::adamw_step({.lr = lr, .weight_decay = lr}, 7, 0.3f)});
  }
  rows[2].trains = false;
  Memory cpu;
  cpu.by_block([&](const kernels::Block& b, Floats param, Floats grad, Floats m, Floats v) {
    const auto& row = rows[static_cast<std::size_t>(b.entry)];
    if (row.trains) kernels::adamw(param, grad, m, v, row.step);
    return row.trains;
  });
  on_every_device([&](Device& device, kernels::Stream stream) {
    Memory gpu;
    There there(device, gpu);
    kernels::adamw(stream, there.table(), there.update(), Mirror(device, rows).data());
    there.fetch();
    REQUIRE(gpu == cpu);
  });
}

TEST_CASE("a GPU's sgd has the CPU's bits") {
  for (const float momentum : {0.0f, 0.9f}) {
    for (const bool nesterov : {false, true}) {
      std::vector<kernels::UpdateRow<kernels::SgdStep>> rows;
      for (const float lr : {1e-2f, 3e-3f, 1.0f}) {
        rows.push_back({.step = {.lr = lr,
                                 .momentum = momentum,
                                 .weight_decay = lr == 1.0f ? 0.0f : lr,
                                 .grad_scale = lr == 1.0f ? 1.0f : 0.7f,
                                 .nesterov = nesterov}});
      }
      Memory cpu;
      cpu.by_block([&](const kernels::Block& b, Floats param, Floats grad, Floats m, Floats) {
        kernels::sgd(param, grad, momentum == 0 ? Floats() : m,
                     rows[static_cast<std::size_t>(b.entry)].step);
        return true;
      });
      on_every_device([&](Device& device, kernels::Stream stream) {
        Memory gpu;
        There there(device, gpu);
        kernels::sgd(stream, there.table(), there.update(), Mirror(device, rows).data());
        there.fetch();
        REQUIRE(gpu == cpu);
      });
    }
  }
}

TEST_CASE("a GPU's lamb has the CPU's bits") {
  std::vector<kernels::UpdateRow<kernels::LambStep>> rows;
  for (const double decay : {0.1, 0.0, 0.2}) {
    rows.push_back({.step = kernels::lamb_step({.weight_decay = decay}, 3, 0.6f),
                    .factor = -static_cast<float>(0.1 + decay)});
  }
  Memory cpu;
  std::vector<double> cpu_sums;
  cpu.by_block([&](const kernels::Block& b, Floats param, Floats grad, Floats m, Floats v) {
    const auto& row = rows[static_cast<std::size_t>(b.entry)];
    std::vector<float> update(param.size());
    kernels::lamb_moments(grad, m, v, row.step);
    kernels::lamb_update(update, param, m, v, row.step);
    cpu_sums.push_back(kernels::sum_of_squares(update));
    kernels::add_scaled(param, row.factor, update);
    return true;
  });
  on_every_device([&](Device& device, kernels::Stream stream) {
    Memory gpu;
    There there(device, gpu);
    std::vector<double> gpu_sums(gpu.blocks.size());
    Mirror sums(device, gpu_sums);
    const Mirror steps(device, rows);
    kernels::lamb_moments(stream, there.table(), there.update(), steps.data());
    kernels::lamb_update_squares(stream, there.table(), there.update(), steps.data(), sums.data(),
                                 1);
    kernels::lamb(stream, there.table(), there.update(), steps.data());
    there.fetch();
    sums.fetch();
    REQUIRE(gpu == cpu);
    REQUIRE(gpu_sums == cpu_sums);
  });
}

TEST_CASE("a GPU's sums of squares have the CPU's bits") {
  Memory memory;
  memory.grad[17] = 1e30f;
  memory.grad[8195] = NAN;
  on_every_device([&](Device& device, kernels::Stream stream) {
    const There there(device, memory);
    std::vector<double> sums(2 * memory.blocks.size(), -1.0);
    Mirror mirror(device, sums);
    kernels::sums_of_squares(stream, there.table(), there.grad.data(), mirror.data(), 2);
    mirror.fetch();
    for (std::size_t b = 0; b < memory.blocks.size(); ++b) {
      const kernels::Block& block = memory.blocks[b];
      const double expected =
          kernels::sum_of_squares(std::span(memory.grad)
                                      .subspan(static_cast<std::size_t>(block.offset),
                                               static_cast<std::size_t>(block.count)));
      if (std::isnan(expected)) {
        REQUIRE(std::isnan(sums[2 * b]));
      } else {
        REQUIRE(sums[2 * b] == expected);
      }
      REQUIRE(sums[2 * b + 1] == -1.0);
    }
  });
}

TEST_CASE("a GPU rounds to bfloat16 as a CPU does") {
  std::vector<float> values(1001);
  std::mt19937 engine(9);
  for (float& value : values) {
    const auto bits = static_cast<std::uint32_t>(engine());
    std::memcpy(&value, &bits, sizeof value);
  }
  std::vector<std::uint16_t> cpu(values.size());
  kernels::to_bfloat16(cpu, values);
  on_every_device([&](Device& device, kernels::Stream stream) {
    for (const std::size_t skipped : {0u, 1u}) {  // with and without loads of four
      std::vector<std::uint16_t> gpu = cpu;
      std::fill(gpu.begin() + static_cast<std::ptrdiff_t>(skipped), gpu.end(), 0);
      const Mirror from(device, values);
      Mirror to(device, gpu);
      kernels::to_bfloat16(stream, to.span().subspan(skipped), from.span().subspan(skipped));
      to.fetch();
      REQUIRE(gpu == cpu);
    }
  });
}

TEST_CASE("a program of sums adds in its order") {
  // ((a + b) + c) + (d + e): the order shows in the bits.
  std::vector<std::vector<float>> values(5, std::vector<float>(101));
  std::mt19937 engine(2);
  std::normal_distribution<float> normal(0, 100);
  for (auto& source : values) {
    for (float& value : source) value = normal(engine);
  }
  std::vector<float> expected(101);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const float left = (values[0][i] + values[1][i]) + values[2][i];
    expected[i] = left + (values[3][i] + values[4][i]);
  }
  on_every_device([&](Device& device, kernels::Stream stream) {
    kernels::SumProgram program{.adds = 0b110010100, .length = 9};
    REQUIRE(program.source_count() == 5);
    std::vector<Mirror<float>> sources;
    for (std::size_t s = 0; s < values.size(); ++s) {
      program.sources[s] = sources.emplace_back(device, values[s]).data();
    }
    std::vector<float> sum(101), first(101);
    Mirror apart(device, sum);
    kernels::run_sum(stream, program, apart.span());
    apart.fetch();
    REQUIRE(sum == expected);
    // Into one of its sources.
    kernels::run_sum(stream, program, sources[0].span());
    device.copy_now(std::as_writable_bytes(std::span(first)), std::as_bytes(sources[0].span()));
    REQUIRE(first == expected);
  });
}

TEST_CASE("averages and parameters change places") {
  const Memory before;
  on_every_device([&](Device& device, kernels::Stream stream) {
    Memory memory;
    There there(device, memory);
    kernels::swap_average(stream, there.table(), there.param.data(), there.average.data());
    there.fetch();
    for (const kernels::Block& block : memory.blocks) {
      for (std::int32_t i = 0; i < block.count; ++i) {
        const auto arena = static_cast<std::size_t>(block.offset + i);
        const auto state = static_cast<std::size_t>(block.state + i);
        REQUIRE(memory.param[arena] == before.average[state]);
        REQUIRE(memory.average[state] == before.param[arena]);
      }
    }
  });
}

TEST_CASE("a content hash shows a flipped bit and a changed place") {
  std::vector<float> values(5000);
  std::iota(values.begin(), values.end(), 1.0f);
  std::vector<std::uint64_t> known;
  on_every_device([&](Device& device, kernels::Stream stream) {
    const auto hash_of = [&](std::vector<float> of) {
      std::vector<std::uint64_t> hash{0};
      Mirror there(device, hash);
      kernels::content_hash(stream, Mirror(device, of).span(), there.data());
      there.fetch();
      return hash.front();
    };
    const std::uint64_t right = hash_of(values);
    std::vector<float> flipped = values, moved = values;
    flipped[4321] = -flipped[4321];
    REQUIRE(hash_of(flipped) != right);
    std::swap(moved[7], moved[4000]);
    REQUIRE(hash_of(moved) != right);
    known.push_back(right);
    REQUIRE(known.front() == right);
  });
}

TEST_CASE("a GPU rounds with feedback, and follows masters, as the CPU does") {
  std::vector<float> value(1003), lost(value.size());
  std::mt19937 engine(7);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < value.size(); ++i) {
    value[i] = normal(engine);
    lost[i] = 1e-3f * normal(engine);
  }
  value[5] = INFINITY;
  value[6] = std::numeric_limits<float>::quiet_NaN();
  value[7] = std::numeric_limits<float>::max();
  std::vector<float> rounded(value.size()), left = lost, followed = lost;
  kernels::round_with_feedback(rounded, value, left);
  std::vector<std::uint16_t> halves(value.size());
  kernels::to_bfloat16(halves, value);
  std::vector<float> widened(value.size());
  kernels::from_bfloat16(widened, halves);
  kernels::add_bfloat16(followed, halves);
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
  };
  on_every_device([&](Device& device, kernels::Stream stream) {
    std::vector<float> given = value, rest = lost, wide(value.size()), sum = lost;
    Mirror there(device, given), rest_there(device, rest), wide_there(device, wide),
        sum_there(device, sum);
    Mirror halves_there(device, halves);
    kernels::round_with_feedback(stream, there.span(), there.span(), rest_there.span());
    kernels::from_bfloat16(stream, wide_there.span(), halves_there.span());
    kernels::add_bfloat16(stream, sum_there.span(), halves_there.span());
    there.fetch();
    rest_there.fetch();
    wide_there.fetch();
    sum_there.fetch();
    REQUIRE(same(given, rounded));
    REQUIRE(same(rest, left));
    REQUIRE(same(wide, widened));
    REQUIRE(same(sum, followed));

    // A master in the parameter's place, and what the parameter has to add to be where it is.
    std::vector<float> param(40, 1.0f), master(40), used(40, 0.0f);
    for (std::size_t i = 0; i < master.size(); ++i) master[i] = 1 + 0.01f * normal(engine);
    std::vector<std::uint16_t> change(40, 9);
    std::vector<kernels::Block> blocks{{.offset = 4, .state = 0, .count = 17, .entry = 0},
                                       {.offset = 24, .state = 20, .count = 9, .entry = 0}};
    std::vector<float> expected_param = param, expected_master = master;
    std::vector<std::uint16_t> expected_change = change;
    for (const kernels::Block& block : blocks) {
      const auto at = static_cast<std::size_t>(block.offset);
      const auto state = static_cast<std::size_t>(block.state);
      const auto count = static_cast<std::size_t>(block.count);
      for (std::size_t i = 0; i < count; ++i) expected_master[state + i] += 0.5f;
      std::vector<float> copy(expected_param.begin() + block.offset,
                              expected_param.begin() + block.offset + block.count);
      kernels::follow(copy, std::span(expected_change).subspan(at, count),
                      std::span<const float>(expected_master).subspan(state, count));
    }
    {
      Mirror param_there(device, param), master_there(device, master), used_there(device, used);
      Mirror change_there(device, change);
      Mirror table(device, blocks);
      const kernels::BlockTable all{table.data(), std::ssize(blocks)};
      const kernels::MasterMemory memory{.param = param_there.data(),
                                         .change = change_there.data(),
                                         .master = master_there.data(),
                                         .used = used_there.data()};
      kernels::take_masters(stream, all, memory);
      param_there.fetch();
      for (const kernels::Block& block : blocks) {
        for (std::int32_t i = 0; i < block.count; ++i) {
          float& value_there = param[static_cast<std::size_t>(block.offset + i)];
          REQUIRE(value_there == master[static_cast<std::size_t>(block.state + i)]);
          value_there += 0.5f;
        }
      }
      device.copy_now(std::as_writable_bytes(param_there.span()),
                      std::as_bytes(std::span<const float>(param)));
      kernels::put_masters(stream, all, memory);
      param_there.fetch();
      master_there.fetch();
      change_there.fetch();
    }
    REQUIRE(same(param, expected_param));
    REQUIRE(same(master, expected_master));
    REQUIRE(change == expected_change);
  });
}
