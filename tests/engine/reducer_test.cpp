#include "engine/reducer.hpp"

#include <sys/resource.h>

#include <array>
#include <csignal>
#include <cstring>

#include "engine/buffers.hpp"
#include "tests/engine/communicator_conformance.hpp"
#include "tests/engine/reduction_check.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("the reduced gradient has the same bits for any number of ranks and hosts") {
  for (const int v : {1, 8, 11, 24}) {
    std::vector<bool> present(static_cast<std::size_t>(v), true);
    if (v == 11) present[3] = present[10] = false;
    for (int ranks = 1; ranks <= std::min(v, 7); ++ranks) {
      for (int ranks_per_host = 1; ranks_per_host <= ranks; ++ranks_per_host) {
        CAPTURE(v, ranks, ranks_per_host);
        REQUIRE_NOTHROW(engine::run_ranks_as_threads(
            ranks, [&](engine::Communicator& comm) { tests::check_reduction(comm, present); },
            ranks_per_host));
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
