#include "engine/reducer.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "engine/buffers.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

float value(std::int64_t leaf, std::size_t element) {
  std::mt19937 random(static_cast<unsigned>(leaf * 1000003 + static_cast<std::int64_t>(element)));
  return std::ldexp(static_cast<float>(random()) / 4e9f - 0.5f, static_cast<int>(random() % 20));
}

// The reduced and gathered arena of rank 0.
std::vector<float> reduce(const engine::ArenaLayout& layout, std::int64_t micro_batches,
                          const std::vector<bool>& present, int ranks) {
  std::vector<float> result;
  engine::run_ranks_as_threads(ranks, [&](engine::Communicator& comm) {
    const auto shares = engine::shares(micro_batches, ranks);
    const engine::Share mine = shares[static_cast<std::size_t>(comm.rank())];
    const engine::Leaves leaves(present);
    engine::GradientPool pool(layout.size());
    engine::GradientFold fold(leaves, mine, engine::gradient_add(pool));
    for (std::int64_t m = mine.begin; m < mine.end; ++m) {
      if (!present[static_cast<std::size_t>(m)]) continue;
      engine::AlignedBuffer gradient = pool.take();
      for (std::size_t i = 0; i < gradient.span().size(); ++i) gradient.span()[i] = value(m, i);
      fold.arrive(m, std::move(gradient));
    }
    engine::Reducer reducer(comm, layout, shares);
    engine::AlignedBuffer sum = reducer.reduce(fold.take(), leaves, pool);
    reducer.gather(sum.span());
    if (comm.rank() == 0) result.assign(sum.span().begin(), sum.span().end());
  });
  return result;
}

}  // namespace

TEST_CASE("the reduced gradient has the same bits for any number of ranks") {
  const engine::ArenaLayout layout({{"a", {70, 70}}, {"b", {3}}, {"c", {9000}}},
                                   engine::ArenaLayout::Holds::trained);
  for (const std::int64_t v : {1, 8, 11, 24}) {
    std::vector<bool> present(static_cast<std::size_t>(v), true);
    if (v == 11) present[3] = present[10] = false;
    const std::vector<float> one = reduce(layout, v, present, 1);
    for (int ranks = 2; ranks <= std::min<std::int64_t>(v, 7); ++ranks) {
      CAPTURE(v, ranks);
      REQUIRE(reduce(layout, v, present, ranks) == one);
    }
  }
}

namespace {

// Values for the three buffers of the test below.
engine::BufferValues buffer_values(const engine::BufferLayout& layout, std::array<float, 2> mean,
                                   std::int64_t count, float same) {
  engine::BufferValues values = layout.initial();
  std::memcpy(layout.of(values, 0).data(), mean.data(), sizeof mean);
  std::memcpy(layout.of(values, 1).data(), &count, sizeof count);
  std::memcpy(layout.of(values, 2).data(), &same, sizeof same);
  return values;
}

}  // namespace

TEST_CASE("buffers keep what all agree on and average what differs") {
  engine::BufferLayout layout;
  layout.add({"mean", {2}, io::DType::f32, 0});
  layout.add({"count", {}, io::DType::i64, 0});
  layout.add({"same", {1}, io::DType::f32, 0.1});
  for (const int ranks : {1, 2, 3}) {
    engine::run_ranks_as_threads(ranks, [&](engine::Communicator& comm) {
      const engine::Leaves leaves(std::vector<bool>(3, true));
      const engine::Share mine = engine::shares(3, ranks)[static_cast<std::size_t>(comm.rank())];
      engine::CanonicalFold<engine::BufferSum> fold(leaves, mine, engine::add_buffers);
      for (std::int64_t m = mine.begin; m < mine.end; ++m) {
        const auto f = static_cast<float>(m);
        fold.arrive(m, engine::buffer_leaf(layout, buffer_values(layout, {f, 2 * f}, 7, 0.1f)));
      }
      const auto joined = engine::join_buffers(comm, layout, leaves, fold.take());
      // 0.1 is kept as it is: summed three times and divided it would not be.
      REQUIRE(joined == buffer_values(layout, {1, 2}, 7, 0.1f));
    });
  }
  engine::run_ranks_as_threads(2, [&](engine::Communicator& comm) {
    const engine::Leaves leaves(std::vector<bool>(2, true));
    engine::CanonicalFold<engine::BufferSum> fold(leaves, {comm.rank(), comm.rank() + 1},
                                                  engine::add_buffers);
    fold.arrive(comm.rank(),
                engine::buffer_leaf(layout, buffer_values(layout, {0, 0}, comm.rank(), 0)));
    const auto nodes = fold.take();
    REQUIRE(
        tests::contains(tests::error_of(io::ErrorKind::bug,
                                        [&] { engine::join_buffers(comm, layout, leaves, nodes); }),
                        "buffer count"));
  });
}
