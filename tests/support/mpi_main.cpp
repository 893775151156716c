#include <cstdio>
#include <cstdlib>
#include <exception>

#include "engine/comm/communicator.hpp"
#include "tests/engine/communicator_conformance.hpp"
#include "tests/engine/device_check.hpp"
#include "tests/engine/reduction_check.hpp"

namespace {

// Each rank names a host of its own, so that all gradients travel as messages.
class FarApart : public hadal::engine::Communicator {
 public:
  explicit FarApart(Communicator& comm) : comm_(comm) {}
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  std::string host() const override { return comm_.host() + std::to_string(rank()); }
  void barrier() override { comm_.barrier(); }
  void broadcast(std::span<std::byte> bytes, int root) override { comm_.broadcast(bytes, root); }
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    comm_.all_gather(mine, all);
  }
  void all_reduce(std::span<float> values) override { comm_.all_reduce(values); }
  std::unique_ptr<hadal::engine::Exchange> start(
      std::span<const hadal::engine::Outgoing> out,
      std::span<const hadal::engine::Incoming> in) override {
    return comm_.start(out, in);
  }
  void abort(int exit_code) override { comm_.abort(exit_code); }

 private:
  Communicator& comm_;
};

// Messages and sums between devices: by the hosts' memory, and where there are GPUs by NCCL, for
// which ranks that share one pass for hosts of their own.
void check_devices(hadal::engine::Communicator& comm) {
  using namespace hadal::engine;
  const int gpus = cuda_device_count();
  ::setenv("NCCL_HOSTID", std::to_string(comm.rank()).c_str(), 0);
  for (const bool gpu : {false, true}) {
    if (gpu && gpus == 0) continue;
    const auto device = gpu ? cuda_device(comm.rank() % gpus, {}) : twin_device();
    for (const bool nccl : {false, true}) {
      if (nccl && (!gpu || !has_nccl())) continue;
      const auto messages = nccl ? nccl_communicator(comm, *device, {.timeout = 60})
                                 : staged_communicator(comm, *device);
      hadal::tests::check_device_messages(comm, *device, *messages);
      for (const int micro_batches : {comm.size(), comm.size() + 3, 16}) {
        std::vector<bool> present(static_cast<std::size_t>(micro_batches), true);
        hadal::tests::check_device_reduction(comm, *device, *messages, present);
      }
      if (comm.rank() == 0) {
        std::printf("checked: %s, by %s\n", device->name().c_str(), messages->name().c_str());
      }
    }
  }
}

}  // namespace

int main() {
  const auto comm = hadal::engine::mpi_communicator();
  try {
    hadal::tests::check_communicator(*comm);
    for (const int micro_batches : {comm->size(), comm->size() + 3, 24}) {
      const std::vector<bool> present(static_cast<std::size_t>(micro_batches), true);
      hadal::tests::check_reduction(*comm, present);
      FarApart apart(*comm);
      hadal::tests::check_reduction(apart, present);
    }
    check_devices(*comm);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "rank %d of %d: %s\n", comm->rank(), comm->size(), failure.what());
    comm->abort(1);
  }
  comm->close();
  return 0;
}
