#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>

#include "engine/comm/communicator.hpp"
#include "engine/comm/polling.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// MPI counts are int; larger spans travel in pieces.
constexpr std::size_t kPieceBytes = std::size_t{1} << 30;
constexpr int kTag = 7;

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw io::Error(io::ErrorKind::peer,
                  fmt::format("{} failed: {} (another rank or the network was lost)", call,
                              std::string_view(text, static_cast<std::size_t>(length))));
}
#define HADAL_CHECK_MPI(call) check(call, #call)

// MPI_Wait spins on a core that a worker or another rank could use, so completion is polled.
void wait_for(MPI_Request request) {
  poll_until([&] {
    int done = 0;
    HADAL_CHECK_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    return done != 0;
  });
}

class MpiExchange : public Exchange {
 public:
  // Only an error leaves requests behind; nothing may arrive in memory that is given back.
  ~MpiExchange() override {
    for (MPI_Request& request : requests) {
      if (request == MPI_REQUEST_NULL) continue;
      MPI_Cancel(&request);
      MPI_Request_free(&request);
    }
  }

  bool done() override {
    int all = 0;
    HADAL_CHECK_MPI(
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &all, MPI_STATUSES_IGNORE));
    return all != 0;
  }

  std::vector<MPI_Request> requests;
};

int as_count(std::size_t bytes) {
  if (bytes > kPieceBytes) throw io::Error(io::ErrorKind::bug, "a message exceeds its piece");
  return static_cast<int>(bytes);
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator() {
    int provided = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
        provided < MPI_THREAD_FUNNELED) {
      throw io::Error(io::ErrorKind::launch, "MPI cannot be initialised with thread support");
    }
    // Without this every failure ends the process inside MPI, and no check could ever fire.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    HADAL_CHECK_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm_));
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string host() const override {
    char name[MPI_MAX_PROCESSOR_NAME] = {};
    int length = 0;
    MPI_Get_processor_name(name, &length);
    return {name, static_cast<std::size_t>(length)};
  }

  void barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    HADAL_CHECK_MPI(MPI_Ibarrier(comm_, &request));
    wait_for(request);
  }

  void broadcast(std::span<std::byte> bytes, int root) override {
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
      MPI_Request request = MPI_REQUEST_NULL;
      HADAL_CHECK_MPI(
          MPI_Ibcast(piece.data(), as_count(piece.size()), MPI_BYTE, root, comm_, &request));
      wait_for(request);
      bytes = bytes.subspan(piece.size());
    }
  }

  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    MPI_Request request = MPI_REQUEST_NULL;
    HADAL_CHECK_MPI(MPI_Iallgather(mine.data(), as_count(mine.size()), MPI_BYTE, all.data(),
                                   as_count(mine.size()), MPI_BYTE, comm_, &request));
    wait_for(request);
  }

  void all_reduce(std::span<float> values) override {
    constexpr std::size_t kPiece = kPieceBytes / sizeof(float);
    while (!values.empty()) {
      const auto piece = values.first(std::min(values.size(), kPiece));
      // The blocking call, with the library's own way of waiting: what peers use.
      HADAL_CHECK_MPI(MPI_Allreduce(MPI_IN_PLACE, piece.data(), static_cast<int>(piece.size()),
                                    MPI_FLOAT, MPI_SUM, comm_));
      values = values.subspan(piece.size());
    }
  }

  std::unique_ptr<Exchange> start(std::span<const Outgoing> out,
                                  std::span<const Incoming> in) override {
    auto exchange = std::make_unique<MpiExchange>();
    std::vector<MPI_Request>& requests = exchange->requests;
    const auto each_piece = [](auto bytes, auto&& post) {
      do {
        const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
        post(piece.data(), as_count(piece.size()));
        bytes = bytes.subspan(piece.size());
      } while (!bytes.empty());
    };
    for (const Incoming& message : in) {
      each_piece(message.bytes, [&](std::byte* data, int count) {
        HADAL_CHECK_MPI(MPI_Irecv(data, count, MPI_BYTE, message.from, kTag, comm_,
                                  &requests.emplace_back(MPI_REQUEST_NULL)));
      });
    }
    for (const Outgoing& message : out) {
      each_piece(message.bytes, [&](const std::byte* data, int count) {
        HADAL_CHECK_MPI(MPI_Isend(data, count, MPI_BYTE, message.to, kTag, comm_,
                                  &requests.emplace_back(MPI_REQUEST_NULL)));
      });
    }
    return exchange;
  }

  void abort(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

  void close() override {
    barrier();
    MPI_Comm_free(&comm_);
    MPI_Finalize();
  }

 private:
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> mpi_communicator() { return std::make_unique<MpiCommunicator>(); }

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string version(text, static_cast<std::size_t>(length));
  return version.substr(0, version.find(','));
}

}  // namespace hadal::engine
