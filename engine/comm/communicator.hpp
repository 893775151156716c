#pragma once
// Ranks and the few operations they share. Who talks (a communicator) is kept apart from what is
// said (the reduction, the scan, the checkpoint). All calls but rank(), size() and abort() are
// collective: every rank makes them in the same order, from one thread. They block with a back-off
// that leaves the core to others.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hadal::engine {

struct Outgoing {
  int to = 0;
  std::span<const std::byte> bytes;
};
struct Incoming {
  int from = 0;
  std::span<std::byte> bytes;
};

// Messages under way; the memory they come from and go to must stay until they are done.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // Moves them on. True once all have been sent and received.
  virtual bool done() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Name of this rank's host.
  virtual std::string host() const = 0;

  virtual void barrier() = 0;
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  // `all` holds size() blocks of mine.size() bytes, in rank order.
  virtual void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) = 0;
  // The sum over the ranks, in whatever order the implementation likes: other bits with other
  // numbers of ranks. The yardstick for what the canonical order costs.
  virtual void all_reduce(std::span<float> values) = 0;
  // Starts to send and to receive. Messages between two ranks match in the order in which they are
  // started and listed, and each must be listed with the same size on both sides. No rank sends to
  // itself. Other calls may be made before they are done.
  [[nodiscard]] virtual std::unique_ptr<Exchange> start(std::span<const Outgoing> out,
                                                        std::span<const Incoming> in) = 0;
  // The same, and waits.
  void exchange(std::span<const Outgoing> out, std::span<const Incoming> in);

  // Ends every rank with this exit code; does not return to the caller's caller in a real launch.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  // Collective end of use. A communicator that is destroyed unclosed after an error stays local.
  virtual void close() {}
};

// One rank, no launcher.
std::unique_ptr<Communicator> solo_communicator();

// Calls `body(communicator)` on `ranks` threads of this process at once and waits for all. The
// first exception is rethrown; the other ranks then leave their calls with a peer error. Each
// `ranks_per_host` ranks name the same host. For tests.
void run_ranks_as_threads(int ranks, const std::function<void(Communicator&)>& body,
                          int ranks_per_host = 1);

// Joins the MPI world, with MPI_Init. Throws a launch error. Call once.
std::unique_ptr<Communicator> mpi_communicator();

// The library's own version string, for manifests.
std::string mpi_library_version();

// Collective. Blocks of any size, in rank order; every rank gets all.
std::vector<std::string> all_gather_text(Communicator& comm, const std::string& mine);

// Collective. Rank `root`'s text on every rank.
std::string broadcast_text(Communicator& comm, const std::string& text, int root = 0);

}  // namespace hadal::engine
