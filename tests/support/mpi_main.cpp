#include <cstdio>
#include <exception>

#include "engine/comm/communicator.hpp"
#include "tests/engine/communicator_conformance.hpp"

int main() {
  const auto comm = hadal::engine::mpi_communicator();
  try {
    hadal::tests::check_communicator(*comm);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "rank %d of %d: %s\n", comm->rank(), comm->size(), failure.what());
    comm->abort(1);
  }
  comm->close();
  return 0;
}
