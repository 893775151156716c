#include <chrono>
#include <thread>

#include "engine/step_gradients.hpp"
#include "engine/thread_team.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("few gradient buffers make workers wait, never for ever") {
  for (const auto& [begin, end] :
       std::vector<std::pair<int, int>>{{0, 16}, {1, 15}, {3, 30}, {5, 6}}) {
    const engine::Share share{begin, end};
    const engine::Leaves leaves(std::vector<bool>(32, true));
    const auto comm = engine::solo_communicator();
    const int buffers = engine::GradientPool::buffers_for(share, 1);
    engine::HostMemory host(*comm, 0, engine::GradientPool::bytes(16, buffers));
    engine::GradientPool pool(host, 16, buffers);
    const engine::ArenaLayout layout({{"a", {10}}}, engine::ArenaLayout::Holds::trained);
    engine::StepGradients gradients(pool, layout, leaves, share);
    engine::ThreadTeam team(1);
    for (int thread = 0; thread < 4; ++thread) team.add();
    team.run(begin, end, [&](int, std::int64_t m) {
      std::this_thread::sleep_for(std::chrono::microseconds(m * 6353 % 11 * 50));
      gradients.begin(m)[0] = static_cast<float>(m);
      std::this_thread::sleep_for(std::chrono::microseconds(m * 7919 % 13 * 50));
      gradients.arrived(0);
      gradients.end(m);
    });
    REQUIRE(gradients.complete(0));
    float sum = 0;
    for (auto& [node, buffer] : gradients.nodes()) sum += buffer.span()[0];
    REQUIRE(sum == static_cast<float>((end - begin) * (begin + end - 1) / 2));
    // What arrived last stands unadded, in what the last ones had.
    const std::size_t left = gradients.nodes().size();
    REQUIRE(left >= leaves.nodes(share).size());
    REQUIRE(left <= static_cast<std::size_t>(buffers));
  }
}

TEST_CASE("a failed micro-batch lets nobody wait for a gradient buffer") {
  const auto comm = engine::solo_communicator();
  engine::HostMemory host(*comm, 0, engine::GradientPool::bytes(10, 1));
  engine::GradientPool pool(host, 10, 1);
  engine::ThreadTeam team(1);
  for (int thread = 0; thread < 3; ++thread) team.add();
  const std::string error = tests::error_of(io::ErrorKind::data, [&] {
    team.run(0, 3, [&](int, std::int64_t m) {
      const engine::GradientBuffer gradient = pool.take(m);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      pool.abandon_step();
      throw io::Error(io::ErrorKind::data, "the cause");
    });
  });
  REQUIRE(error == "the cause");
  pool.begin_step();
  REQUIRE_NOTHROW(pool.take(0));
}
