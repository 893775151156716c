#include <cmath>
#include <random>

#include "launch/loss_spikes.hpp"
#include "launch/slow_ranks.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("a slow rank is told once, with what it does longer than most") {
  launch::SlowRanks slow({"a", "a", "b", "b"});
  const engine::RankTimes usual{.data = 0.001f, .compute = 0.1f, .save = 0};
  std::vector<engine::RankTimes> ranks(4, usual);
  std::vector<std::string> lines;
  const auto steps = [&](int count) {
    lines.clear();
    for (int step = 0; step < count; ++step) {
      for (std::string& line : slow.take(ranks)) lines.push_back(std::move(line));
    }
  };
  steps(200);
  REQUIRE(lines.empty());
  ranks[2].data = 0.2f;
  steps(200);
  REQUIRE(lines == std::vector<std::string>{
                       "rank 2 on b keeps the others waiting: waiting for data takes it 200 ms a "
                       "step, others 1 ms"});
  ranks[2] = usual;
  ranks[1].compute = 0.5f;
  steps(50);
  REQUIRE(lines.size() == 1);
  REQUIRE(tests::contains(lines[0], "rank 1 on a keeps the others waiting: computing"));
  // One step is nothing, nor is half as long again of very little.
  launch::SlowRanks other({"a", "a"});
  std::vector<engine::RankTimes> two(2, {.data = 0, .compute = 0.001f, .save = 0});
  two[1].compute = 0.004f;
  for (int step = 0; step < 100; ++step) REQUIRE(other.take(two).empty());
}

TEST_CASE("a loss that leaps is told, noise and a falling loss are not") {
  launch::LossSpikes spikes;
  std::uint32_t draw = 1;
  const auto noise = [&] {
    draw = draw * 1664525u + 1013904223u;
    return static_cast<double>(draw >> 8) / (1 << 24) - 0.5;
  };
  for (int step = 0; step < 2000; ++step) {
    REQUIRE_FALSE(spikes.take(2.0 * std::exp(-step / 500.0) * (1 + 0.4 * noise()) + 0.1));
  }
  const auto before = spikes.take(40);
  REQUIRE(before);
  REQUIRE(*before == Approx(0.14).margin(0.02));
  // Where it goes on so, once is enough.
  REQUIRE_FALSE(spikes.take(41));
  REQUIRE_FALSE(spikes.take(NAN));
}

TEST_CASE("small losses that differ by factors are none") {
  launch::LossSpikes spikes;
  std::mt19937 bits(3);
  // As losses of batches are when nearly all samples are learnt: nearly all of it is of a few.
  std::lognormal_distribution<double> loss(std::log(0.004), 1.2);
  for (int step = 0; step < 20000; ++step) REQUIRE_FALSE(spikes.take(loss(bits)));
  REQUIRE(spikes.take(1e4));
  // Of losses that may be negative there are no factors.
  launch::LossSpikes other;
  for (int step = 0; step < 100; ++step) REQUIRE_FALSE(other.take(step % 2 == 0 ? 1 : -1));
  REQUIRE(other.take(60));
}
