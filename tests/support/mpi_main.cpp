#include <cstdio>
#include <exception>

#include "engine/comm/communicator.hpp"
#include "tests/engine/communicator_conformance.hpp"
#include "tests/engine/reduction_check.hpp"

int main() {
  const auto comm = hadal::engine::mpi_communicator();
  try {
    hadal::tests::check_communicator(*comm);
    for (const int micro_batches : {comm->size(), comm->size() + 3, 24}) {
      hadal::tests::check_reduction(
          *comm, std::vector<bool>(static_cast<std::size_t>(micro_batches), true));
    }
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "rank %d of %d: %s\n", comm->rank(), comm->size(), failure.what());
    comm->abort(1);
  }
  comm->close();
  return 0;
}
