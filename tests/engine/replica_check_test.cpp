#include "engine/replica_check.hpp"

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

// What all ranks say, after one of them has spoilt its copy; 5 ranks on hosts of two.
std::string after(const std::function<void(engine::Weights&, int rank)>& spoil) {
  engine::ModelOptions options;
  options.kind = "convnet";
  const auto model = engine::build_model(options, {{"x", io::DType::f32, {1, 6, 6}}}, {3});
  std::vector<std::string> said(5);
  engine::run_ranks_as_threads(
      5,
      [&](engine::Communicator& comm) {
        engine::Weights::Layouts layouts(*model);
        engine::HostMemory host(comm, layouts.bytes(engine::Weights::RoundedCopy::no), 0);
        engine::Weights weights(std::move(layouts), host, engine::Weights::RoundedCopy::no);
        weights.initialise(*model, 1);
        engine::ThreadTeam team(1);
        team.add();
        host.barrier();
        spoil(weights, comm.rank());
        host.barrier();
        said[static_cast<std::size_t>(comm.rank())] = tests::error_of(io::ErrorKind::numeric, [&] {
          engine::check_replicas(comm, host, weights, team, "after step 50");
        });
      },
      2);
  for (const std::string& each : said) REQUIRE(each == said.front());
  return said.front();
}

}  // namespace

TEST_CASE("a copy of the model with other bits is found and named") {
  REQUIRE(after([](engine::Weights&, int) {}) == "no error");
  REQUIRE(after([](engine::Weights& weights, int rank) {
            if (rank == 3) weights.parameters.back() += 1;
          }).starts_with("the parameters of ranks 2, 3 differ from the others' after step 50"));
  // The same two values in each other's place.
  REQUIRE(after([](engine::Weights& weights, int rank) {
            if (rank == 4) std::swap(weights.parameters[0], weights.parameters[1]);
          }).starts_with("the parameters of rank 4 differ"));
  REQUIRE(after([](engine::Weights& weights, int rank) {
            if (rank == 1) weights.buffers.bytes[0] ^= std::byte{1};
          }).starts_with("the buffers of rank 1 differ"));
}
