#include "engine/reducer.hpp"

#include <sys/resource.h>

#include <array>
#include <cmath>
#include <csignal>
#include <cstring>
#include <stdexcept>

#include "engine/buffers.hpp"
#include "io/sample_order.hpp"
#include "tests/engine/communicator_conformance.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

// For the threads of ranks, where the test framework's own checks are not allowed.
void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

// Of either sign and of many magnitudes, so that another order of additions shows.
float value(std::int64_t leaf, std::size_t element) {
  const std::uint64_t random = io::mix(1, static_cast<std::uint64_t>(leaf), element);
  return std::ldexp(static_cast<float>(random >> 40) / 16777216.0f - 0.5f,
                    static_cast<int>(random % 20));
}

struct Reduced {
  std::vector<float> sum;       // what every rank reads in the end
  std::vector<double> squares;  // of all blocks of a one-rank run
};

// Reduces V synthetic gradients and hands the sum out as if it were the parameters. Every
// micro-batch whose number `alone` divides is left unadded until the reduction.
Reduced reduce(const engine::ArenaLayout& layout, const std::vector<bool>& present, int ranks,
               int ranks_per_host, std::int64_t alone = 1000) {
  Reduced result;
  const auto micro_batches = static_cast<std::int64_t>(present.size());
  const auto bytes = static_cast<std::size_t>(layout.size()) * sizeof(float);
  engine::run_ranks_as_threads(
      ranks,
      [&](engine::Communicator& comm) {
        const int buffers = static_cast<int>(micro_batches);
        engine::HostMemory host(comm, bytes, engine::GradientPool::bytes(layout.size(), buffers));
        require(host.size() <= ranks_per_host, "more ranks on a host than there are");
        const auto shares = engine::shares_of(micro_batches, host);
        const engine::Share mine = shares[static_cast<std::size_t>(comm.rank())];
        const engine::Leaves leaves(present);
        engine::GradientPool pool(host, layout.size(), buffers);
        engine::CanonicalFold<engine::GradientBuffer> fold(
            leaves, mine, [](engine::GradientBuffer a, engine::GradientBuffer b) {
              kernels::add_into(a.span(), b.span());
              return a;
            });
        for (std::int64_t m = mine.begin; m < mine.end; ++m) {
          if (!present[static_cast<std::size_t>(m)]) continue;
          engine::GradientBuffer gradient = pool.take();
          // Between parameters there is padding, which backward never touches.
          for (const engine::ArenaEntry& entry : layout.entries()) {
            for (std::int64_t k = entry.offset; k < entry.offset + entry.count; ++k) {
              const auto at = static_cast<std::size_t>(k);
              gradient.span()[at] = value(m, at);
            }
          }
          fold.arrive(m, std::move(gradient), m % alone != 0);
        }
        engine::ThreadTeam team(1);
        for (int t = 0; t <= comm.rank() % 2; ++t) team.add();
        engine::Reducer reducer(comm, host, layout, pool, shares, team);
        const engine::GradientBuffer sum = reducer.reduce(fold.take(), leaves);
        const std::span<float> arena(reinterpret_cast<float*>(host.common().data()),
                                     static_cast<std::size_t>(layout.size()));
        for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
          const engine::ArenaSlice slice = layout.slice(b, comm.rank(), comm.size());
          std::copy(sum.span().begin() + slice.begin, sum.span().begin() + slice.end,
                    arena.begin() + slice.begin);
        }
        reducer.gather(arena);
        const std::vector<std::string> all =
            engine::all_gather_text(comm, {reinterpret_cast<const char*>(arena.data()), bytes});
        for (const std::string& theirs : all)
          require(theirs == all.front(), "ranks read other sums");
        if (comm.rank() != 0) return;
        result = {{arena.begin(), arena.end()}, reducer.squares()};
      },
      ranks_per_host);
  return result;
}

}  // namespace

TEST_CASE("the reduced gradient has the same bits for any number of ranks and hosts") {
  const engine::ArenaLayout layout({{"a", {70, 70}}, {"b", {3}}, {"c", {9000}}},
                                   engine::ArenaLayout::Holds::trained);
  for (const std::int64_t v : {1, 8, 11, 24}) {
    std::vector<bool> present(static_cast<std::size_t>(v), true);
    if (v == 11) present[3] = present[10] = false;
    const Reduced one = reduce(layout, present, 1, 1);
    // Leaving sums to the reduction changes nothing.
    REQUIRE(reduce(layout, present, 1, 1, 2).sum == one.sum);
    for (std::size_t k = 0; k < layout.blocks().size(); ++k) {
      const engine::ArenaBlock& block = layout.blocks()[k];
      double squares = 0;
      for (std::int64_t i = block.offset; i < block.offset + block.count; ++i) {
        const double x = one.sum[static_cast<std::size_t>(i)];
        squares += x * x;
      }
      REQUIRE(one.squares[k] == Approx(squares).epsilon(1e-12));
    }
    for (int ranks = 2; ranks <= std::min<std::int64_t>(v, 7); ++ranks) {
      for (int ranks_per_host = 1; ranks_per_host <= ranks; ++ranks_per_host) {
        CAPTURE(v, ranks, ranks_per_host);
        REQUIRE(reduce(layout, present, ranks, ranks_per_host).sum == one.sum);
        REQUIRE(reduce(layout, present, ranks, ranks_per_host, 3).sum == one.sum);
      }
    }
  }
}

TEST_CASE("ranks of a host share memory; where they cannot, each counts as a host") {
  const auto check = [](bool shares) {
    engine::run_ranks_as_threads(
        5, [&](engine::Communicator& comm) { tests::check_host_memory(comm, shares); }, 3);
  };
  REQUIRE_NOTHROW(check(true));
  // A file that may not grow stands for every way in which sharing fails.
  struct rlimit before = {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &none) == 0);
  std::string failure;
  try {
    check(false);
  } catch (const std::exception& exception) {
    failure = exception.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  REQUIRE(failure.empty());
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
