#include "io/sample_order.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

// All samples of an epoch, in the order of steps and micro-batches.
std::vector<std::int64_t> epoch(const io::SampleOrder& order, std::int64_t number,
                                std::int64_t streams) {
  std::vector<std::int64_t> all;
  for (std::int64_t step = 0; step < order.steps_per_epoch(); ++step) {
    for (std::int64_t m = 0; m < streams; ++m) {
      for (const std::int64_t s : order.micro_batch(number, step, m)) all.push_back(s);
    }
  }
  return all;
}

io::OrderOptions options(io::Shuffle shuffle, std::int64_t samples) {
  io::OrderOptions o{.samples = samples,
                     .streams = 6,
                     .micro_batch = 4,
                     .drop_last = false,
                     .shuffle = shuffle,
                     .seed = 11,
                     .block_starts = {},
                     .window = 2};
  for (std::int64_t s = 0; s < samples; s += 7) o.block_starts.push_back(s);
  o.block_starts.push_back(samples);
  return o;
}

}  // namespace

TEST_CASE("a bijection reaches every number once") {
  for (const std::int64_t size : {1, 2, 3, 17, 64, 1000}) {
    const io::Bijection permute(size, 42);
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < size; ++i) seen.insert(permute(i));
    REQUIRE(static_cast<std::int64_t>(seen.size()) == size);
    REQUIRE(*seen.begin() == 0);
    REQUIRE(*seen.rbegin() == size - 1);
  }
}

TEST_CASE("every sample comes once an epoch under every shuffle") {
  for (const auto shuffle : {io::Shuffle::none, io::Shuffle::full, io::Shuffle::block}) {
    for (const std::int64_t samples : {5, 24, 145, 1000}) {
      CAPTURE(static_cast<int>(shuffle), samples);
      const io::SampleOrder order(options(shuffle, samples));
      REQUIRE(order.steps_per_epoch() == (samples + 23) / 24);
      const auto all = epoch(order, 3, 6);
      REQUIRE(static_cast<std::int64_t>(all.size()) == samples);
      REQUIRE(static_cast<std::int64_t>(std::set<std::int64_t>(all.begin(), all.end()).size()) ==
              samples);
    }
  }
}

TEST_CASE("drop_last gives whole micro-batches only") {
  auto o = options(io::Shuffle::full, 145);
  o.drop_last = true;
  const io::SampleOrder order(o);
  REQUIRE(order.steps_per_epoch() == 6);
  const auto all = epoch(order, 0, 6);
  REQUIRE(all.size() == 144);
  REQUIRE(std::set<std::int64_t>(all.begin(), all.end()).size() == 144);
  o.samples = 23;
  REQUIRE(io::SampleOrder(o).steps_per_epoch() == 0);
}

TEST_CASE("the order is a function of seed and epoch alone") {
  for (const auto shuffle : {io::Shuffle::full, io::Shuffle::block}) {
    const io::SampleOrder a(options(shuffle, 500));
    const io::SampleOrder b(options(shuffle, 500));
    // Asked backwards, the second gives the same: nothing is carried along.
    for (std::int64_t e = 4; e >= 0; --e) REQUIRE(epoch(b, e, 6) == epoch(a, e, 6));
    REQUIRE(epoch(a, 0, 6) != epoch(a, 1, 6));
    auto other = options(shuffle, 500);
    other.seed = 12;
    REQUIRE(epoch(io::SampleOrder(other), 0, 6) != epoch(a, 0, 6));
  }
}

TEST_CASE("block shuffle reads a block inside few windows") {
  auto o = options(io::Shuffle::block, 7000);
  o.streams = 2;
  o.micro_batch = 10;
  const io::SampleOrder order(o);
  // In a window of two blocks of 7 rows, any 14 rows in a row touch at most four blocks.
  std::vector<std::int64_t> stream;
  for (std::int64_t step = 0; step < order.steps_per_epoch(); ++step) {
    for (const std::int64_t s : order.micro_batch(0, step, 0)) stream.push_back(s);
  }
  for (std::size_t i = 0; i + 14 <= stream.size(); i += 14) {
    std::set<std::int64_t> blocks;
    for (std::size_t k = i; k < i + 14; ++k) blocks.insert(stream[k] / 7);
    REQUIRE(blocks.size() <= 4);
  }
}

TEST_CASE("shards of one class each: every early step of a full shuffle sees all classes") {
  constexpr std::int64_t kShard = 1000;
  io::OrderOptions o = options(io::Shuffle::full, 4 * kShard);
  o.streams = 4;
  o.micro_batch = 8;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    o.seed = seed;
    const io::SampleOrder order(o);
    for (std::int64_t step = 0; step < 10; ++step) {
      std::set<std::int64_t> classes;
      for (std::int64_t m = 0; m < o.streams; ++m) {
        for (const std::int64_t s : order.micro_batch(0, step, m)) classes.insert(s / kShard);
      }
      REQUIRE(classes.size() == 4);
    }
  }
}

TEST_CASE("neighbours, epochs and seeds are not correlated") {
  constexpr std::int64_t kSamples = 20000;
  const auto correlation = [](const std::vector<std::int64_t>& a,
                              const std::vector<std::int64_t>& b, std::size_t lag) {
    const double mean = (kSamples - 1) / 2.0, variance = (kSamples * 1.0 * kSamples - 1) / 12;
    double sum = 0;
    for (std::size_t i = lag; i < a.size(); ++i) {
      sum += (static_cast<double>(a[i]) - mean) * (static_cast<double>(b[i - lag]) - mean);
    }
    return sum / static_cast<double>(a.size() - lag) / variance;
  };
  // Five standard deviations of the correlation of independent permutations.
  const double bound = 5 / std::sqrt(static_cast<double>(kSamples));
  io::OrderOptions o = options(io::Shuffle::full, kSamples);
  const io::SampleOrder order(o);
  o.seed = 12;
  const io::SampleOrder other(o);
  const std::vector<std::int64_t> first = epoch(order, 0, 6), second = epoch(order, 1, 6),
                                  another = epoch(other, 0, 6);
  for (const std::size_t lag : {1u, 2u, 4u, 24u})
    REQUIRE(std::abs(correlation(first, first, lag)) < bound);
  for (const std::size_t lag : {0u, 1u}) {
    REQUIRE(std::abs(correlation(first, second, lag)) < bound);
    REQUIRE(std::abs(correlation(first, another, lag)) < bound);
  }
  // The sequence as it is stored would be seen.
  std::vector<std::int64_t> stored = first;
  std::sort(stored.begin(), stored.end());
  REQUIRE(correlation(stored, stored, 1) > 0.99);
}
