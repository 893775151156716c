#include <c10/util/BFloat16.h>

#include <bit>
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "kernels/adamw.hpp"
#include "kernels/average.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/flush_to_zero.hpp"
#include "kernels/lamb.hpp"
#include "kernels/sgd.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/instruction_sets.hpp"

using namespace hadal;
using tests::on_every_target;

namespace {

struct Arrays {
  std::vector<float> param, grad, first, second;
  explicit Arrays(std::size_t count) : param(count), grad(count), first(count), second(count) {
    std::mt19937 engine(5);
    std::normal_distribution<float> normal(0, 1);
    for (std::size_t i = 0; i < count; ++i) {
      param[i] = normal(engine);
      grad[i] = normal(engine);
      first[i] = normal(engine);
      second[i] = std::fabs(normal(engine));
    }
  }
};

}  // namespace

TEST_CASE("sgd equals its definition on every instruction set") {
  for (const bool nesterov : {false, true}) {
    for (const float decay : {0.0f, 0.1f}) {
      const kernels::SgdStep step{.lr = 0.03f,
                                  .momentum = 0.9f,
                                  .weight_decay = decay,
                                  .grad_scale = 0.7f,
                                  .nesterov = nesterov};
      on_every_target([&] {
        Arrays now(1003);
        const Arrays before = now;
        kernels::sgd(now.param, now.grad, now.first, step);
        for (std::size_t i = 0; i < before.param.size(); ++i) {
          float g = before.grad[i] * 0.7f;
          if (decay != 0) g = std::fma(before.param[i], decay, g);
          const float b = before.first[i] * 0.9f + g;
          const float direction = nesterov ? std::fma(b, 0.9f, g) : b;
          REQUIRE(now.first[i] == b);
          REQUIRE(now.param[i] == std::fma(direction, -0.03f, before.param[i]));
        }
      });
    }
  }
}

TEST_CASE("sgd without momentum needs no buffer") {
  Arrays now(50);
  const Arrays before = now;
  kernels::sgd(now.param, now.grad, {}, {.lr = 0.5f});
  for (std::size_t i = 0; i < 50; ++i) {
    REQUIRE(now.param[i] == std::fma(before.grad[i], -0.5f, before.param[i]));
  }
}

TEST_CASE("adamw equals its definition on every instruction set") {
  const kernels::AdamwStep step = kernels::adamw_step(
      {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1}, 3, 0.5f);
  REQUIRE(step.decay == Approx(1 - 1e-3));
  REQUIRE(step.step_size == Approx(1e-2 / (1 - 0.9 * 0.9 * 0.9)));
  on_every_target([&] {
    Arrays now(777);
    const Arrays before = now;
    kernels::adamw(now.param, now.grad, now.first, now.second, step);
    for (std::size_t i = 0; i < before.param.size(); ++i) {
      const float g = before.grad[i] * 0.5f;
      const float m = std::fma(g - before.first[i], step.one_minus_beta1, before.first[i]);
      const float v = std::fma(step.one_minus_beta2 * g, g, before.second[i] * step.beta2);
      const float denominator = std::sqrt(v) / step.root + step.eps;
      REQUIRE(now.first[i] == m);
      REQUIRE(now.second[i] == v);
      REQUIRE(now.param[i] == before.param[i] * step.decay + (-step.step_size * m) / denominator);
    }
  });
}

TEST_CASE("a moving average equals its definition on every instruction set") {
  on_every_target([&] {
    Arrays now(333);
    const Arrays before = now;
    kernels::move_average(now.first, now.param, 0.01f);
    for (std::size_t i = 0; i < before.first.size(); ++i) {
      REQUIRE(now.first[i] == std::fma(before.param[i] - before.first[i], 0.01f, before.first[i]));
    }
  });
}

TEST_CASE("lamb equals its definition on every instruction set") {
  const kernels::LambStep step = kernels::lamb_step(
      {.lr = 1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1}, 3, 0.5f);
  REQUIRE(step.correction1 == Approx(1 - 0.9 * 0.9 * 0.9));
  REQUIRE(step.root == Approx(std::sqrt(1 - 0.99 * 0.99 * 0.99)));
  on_every_target([&] {
    Arrays now(777);
    const Arrays before = now;
    std::vector<float> update(777);
    kernels::lamb_moments(now.grad, now.first, now.second, step);
    kernels::lamb_update(update, now.param, now.first, now.second, step);
    REQUIRE(now.param == before.param);
    for (std::size_t i = 0; i < update.size(); ++i) {
      const float g = before.grad[i] * 0.5f;
      const float m = std::fma(g - before.first[i], step.one_minus_beta1, before.first[i]);
      const float v = std::fma(step.one_minus_beta2 * g, g, before.second[i] * step.beta2);
      const float adam = (m / step.correction1) / (std::sqrt(v) / step.root + step.eps);
      REQUIRE(now.first[i] == m);
      REQUIRE(now.second[i] == v);
      REQUIRE(update[i] == std::fma(before.param[i], 0.1f, adam));
    }
  });
}

TEST_CASE("a thread flushes denormals only after it was told to") {
  bool before = true, after = false;
  float product = 1;
  std::thread([&] {
    before = kernels::flushes_to_zero();
    kernels::set_flush_to_zero();
    after = kernels::flushes_to_zero();
    volatile float tiny = 1e-30f;
    product = tiny * tiny * 1e20f;
    volatile float denormal = 1e-38f;
    product = denormal * 0.1f;
  }).join();
  REQUIRE(after);
  REQUIRE(product == 0.0f);
  static_cast<void>(before);
}

TEST_CASE("values are rounded to bfloat16 as torch rounds them, on every instruction set") {
  std::vector<float> values{0.0f,    -0.0f,    1.0f,      1.00390625f, 1.01171875f,
                            3.4e38f, INFINITY, -INFINITY, 1e-40f};
  std::mt19937 engine(5);
  while (values.size() < 100003) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(engine()));
    if (!std::isnan(value)) values.push_back(value);
  }
  on_every_target([&] {
    std::vector<std::uint16_t> copy(values.size());
    kernels::to_bfloat16(copy, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (copy[i] != c10::BFloat16(values[i]).x) FAIL(values[i] << " becomes " << copy[i]);
    }
    const std::vector<float> none(40, NAN);
    std::vector<std::uint16_t> still(none.size());
    kernels::to_bfloat16(still, none);
    for (const std::uint16_t bits : still) {
      REQUIRE(std::isnan(static_cast<float>(c10::BFloat16(bits, c10::BFloat16::from_bits()))));
    }
  });
}

TEST_CASE("what rounding leaves out of a value goes into the next, on every instruction set") {
  constexpr std::size_t kCount = 1003;
  constexpr int kSteps = 50;
  const Arrays arrays(kCount);
  on_every_target([&] {
    std::vector<float> lost(kCount, 0.0f), rounded(kCount);
    std::vector<double> given(kCount, 0.0), got(kCount, 0.0);
    for (int step = 0; step < kSteps; ++step) {
      const std::vector<float> before = lost;
      kernels::round_with_feedback(rounded, arrays.param, lost);
      for (std::size_t i = 0; i < kCount; ++i) {
        const float value = arrays.param[i] + before[i];
        if (rounded[i] != static_cast<float>(c10::BFloat16(value))) FAIL(value << " " << i);
        if (lost[i] != value - rounded[i]) FAIL(lost[i] << " is left out of " << value);
        given[i] += static_cast<double>(arrays.param[i]);
        got[i] += static_cast<double>(rounded[i]);
      }
    }
    // Nothing is lost for good: the sums differ by one rounding, however many steps there are.
    for (std::size_t i = 0; i < kCount; ++i) {
      if (std::fabs(given[i] - got[i]) > std::fabs(arrays.param[i]) / 128) FAIL(given[i]);
    }
    std::vector<float> values{NAN, INFINITY, -INFINITY, 3.4e38f, 1.0f};
    std::vector<float> left{0.0f, 1.0f, 0.0f, 0.0f, NAN};
    kernels::round_with_feedback(values, values, left);
    REQUIRE(left == std::vector<float>(5, 0.0f));
    REQUIRE(std::isnan(values[0]));
    REQUIRE(values[1] == INFINITY);
    REQUIRE(values[2] == -INFINITY);
    REQUIRE(values[3] == INFINITY);
    REQUIRE(std::isnan(values[4]));
  });
}

TEST_CASE("values follow their goal in bfloat16 changes, on every instruction set") {
  constexpr std::size_t kCount = 1003;
  const Arrays arrays(kCount);
  on_every_target([&] {
    std::vector<float> owner = arrays.param, other = arrays.param;
    std::vector<std::uint16_t> change(kCount);
    std::vector<float> goal = arrays.param;
    for (int step = 0; step < 20; ++step) {
      for (std::size_t i = 0; i < kCount; ++i) goal[i] += 1e-3f * arrays.grad[i];
      kernels::follow(owner, change, goal);
      kernels::add_bfloat16(other, change);
      REQUIRE(owner == other);
    }
    std::vector<float> wide(kCount);
    kernels::from_bfloat16(wide, change);
    for (std::size_t i = 0; i < kCount; ++i) {
      const auto exact = static_cast<float>(c10::BFloat16(change[i], c10::BFloat16::from_bits()));
      if (wide[i] != exact) FAIL(wide[i] << " instead of " << exact);
      // A rounding of one change, not of twenty; and one of the sum.
      const float apart = std::fabs(goal[i] - owner[i]);
      if (apart > std::fabs(1e-3f * arrays.grad[i]) / 128 + std::fabs(goal[i]) * 0x1p-23f) {
        FAIL(goal[i] << " " << owner[i]);
      }
    }
  });
}
