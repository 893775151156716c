#include "tests/engine/communicator_conformance.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("one rank alone is a communicator") {
  const auto comm = engine::solo_communicator();
  REQUIRE_NOTHROW(tests::check_communicator(*comm));
}

TEST_CASE("ranks as threads are a communicator") {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    CAPTURE(ranks);
    REQUIRE_NOTHROW(engine::run_ranks_as_threads(ranks, tests::check_communicator));
  }
}

TEST_CASE("a rank that fails alone frees the others") {
  const auto body = [](engine::Communicator& comm) {
    if (comm.rank() == 1) throw io::Error(io::ErrorKind::data, "alone");
    comm.barrier();
  };
  REQUIRE(tests::error_of(io::ErrorKind::data, [&] { engine::run_ranks_as_threads(3, body); }) ==
          "alone");
}
