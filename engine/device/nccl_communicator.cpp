#include <cuda_runtime.h>
#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <vector>

#include "engine/comm/collectively.hpp"
#include "engine/comm/polling.hpp"
#include "engine/device/device_communicator.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

// So many ranks find each other through one of them; more would wait in one line.
constexpr int kRanksOfRoot = 256;

io::Error nccl_error(io::ErrorKind kind, ncclResult_t code, ncclComm_t comm,
                     const std::string& what) {
  const char* const detail = ::ncclGetLastError(comm);
  return {kind,
          fmt::format("{}: NCCL says \"{}\"{}; NCCL_DEBUG=INFO tells more", what,
                      ::ncclGetErrorString(code),
                      detail == nullptr || *detail == '\0' ? "" : fmt::format(" ({})", detail))};
}

// The library's communicator with what is registered to it; memory may outlive it.
struct Nccl {
  explicit Nccl(double seconds) : timeout(seconds) {}

  ncclComm_t comm = nullptr;
  std::map<void*, void*> handles;  // by memory
  double timeout;                  // seconds, of every call

  // Calls of a communicator that does not block may go on in the background.
  void settle(ncclResult_t code, io::ErrorKind kind, const char* what) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout);
    bool late = false;
    if (code == ncclInProgress) {
      poll_until([&] {
        if (::ncclCommGetAsyncError(comm, &code) != ncclSuccess) code = ncclInternalError;
        late = std::chrono::steady_clock::now() > end;
        return code != ncclInProgress || late;
      });
    }
    if (code == ncclSuccess) return;
    if (late) {
      throw io::Error(kind, fmt::format("{}: not all ranks have come within {:.0f} s; does every "
                                        "host reach the others (NCCL_SOCKET_IFNAME)?",
                                        what, timeout));
    }
    throw nccl_error(kind, code, comm, what);
  }

  void close(bool healthy) {
    if (comm == nullptr) return;
    for (const auto& [memory, handle] : handles) {
      if (healthy) ::ncclCommDeregister(comm, handle);
    }
    handles.clear();
    if (healthy) {
      try {
        settle(::ncclCommFinalize(comm), io::ErrorKind::peer, "the GPUs do not part");
      } catch (const io::Error&) {
        // A rank that does not come must not hold this one: it has what it came for.
        healthy = false;
      }
    }
    if (healthy) {
      ::ncclCommDestroy(comm);
    } else {
      // Ends what is queued on the device, so that its memory can be freed.
      ::ncclCommAbort(comm);
    }
    comm = nullptr;
  }
};

// The ids to find each other by: one of every first rank of a group, as NCCL cuts the ranks
// (ncclCommInitRankScalable: groups as even as possible, the first ones larger by one).
std::vector<ncclUniqueId> exchange_ids(Communicator& comm) {
  const int groups = (comm.size() + kRanksOfRoot - 1) / kRanksOfRoot;
  std::vector<ncclUniqueId> ids(static_cast<std::size_t>(groups));
  run_collectively(comm, "starting NCCL", [&] {
    for (int group = 0; group < groups; ++group) {
      const int each = comm.size() / groups, larger = comm.size() % groups;
      if (comm.rank() != group * each + std::min(group, larger)) continue;
      const ncclResult_t code = ::ncclGetUniqueId(&ids[static_cast<std::size_t>(group)]);
      if (code != ncclSuccess) {
        throw nccl_error(io::ErrorKind::launch, code, nullptr, "NCCL cannot be started");
      }
    }
  });
  for (int group = 0; group < groups; ++group) {
    const int each = comm.size() / groups, larger = comm.size() % groups;
    comm.broadcast(std::as_writable_bytes(std::span(&ids[static_cast<std::size_t>(group)], 1)),
                   group * each + std::min(group, larger));
  }
  return ids;
}

class NcclCommunicator : public DeviceCommunicator {
 public:
  NcclCommunicator(Communicator& comm, Device& device, const NcclOptions& options)
      : device_(device),
        nccl_(std::make_shared<Nccl>(options.timeout)),
        unwinding_(std::uncaught_exceptions()) {
    std::vector<ncclUniqueId> ids = exchange_ids(comm);
    run_collectively(comm, "connecting the GPUs", [&] {
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;  // else no call could be given up
      if (options.most_blocks > 0) config.maxCTAs = options.most_blocks;
      const auto region = device.enter(Device::Lane::reduce);
      const ncclResult_t code =
          ::ncclCommInitRankScalable(&nccl_->comm, comm.size(), comm.rank(),
                                     static_cast<int>(ids.size()), ids.data(), &config);
      try {
        nccl_->settle(code, io::ErrorKind::launch, "the GPUs cannot be connected");
      } catch (...) {
        nccl_->close(/*healthy=*/false);
        throw;
      }
    });
  }
  // While an error is on its way, what is queued may wait for ranks that are gone.
  ~NcclCommunicator() override {
    nccl_->close(!failed_ && std::uncaught_exceptions() == unwinding_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  std::string name() const override { return "NCCL " + nccl_version(); }

  // Registered with the network once, as a whole.
  Device::Memory allocate(std::size_t bytes) override {
    const auto region = device_.enter(Device::Lane::reduce);
    void* memory = nullptr;
    const std::size_t wanted = std::max<std::size_t>(bytes, 1);
    if (::ncclMemAlloc(&memory, wanted) != ncclSuccess) return device_.allocate(bytes);
    const std::weak_ptr<Nccl> nccl = nccl_;
    Device::Memory held(static_cast<std::byte*>(memory), [nccl](std::byte* m) {
      if (const auto alive = nccl.lock()) {
        const auto found = alive->handles.find(m);
        if (found != alive->handles.end()) {
          ::ncclCommDeregister(alive->comm, found->second);
          alive->handles.erase(found);
        }
      }
      ::ncclMemFree(m);
    });
    ::cudaMemset(memory, 0, wanted);
    ::cudaDeviceSynchronize();
    void* handle = nullptr;
    // Where it cannot be registered, NCCL copies; nothing else changes.
    if (::ncclCommRegister(nccl_->comm, memory, wanted, &handle) == ncclSuccess &&
        handle != nullptr) {
      nccl_->handles.emplace(memory, handle);
    }
    return held;
  }

  void exchange(std::span<const Outgoing> out, std::span<const Incoming> in,
                Device::Lane lane) override {
    const cudaStream_t stream = stream_of(lane);
    begin();
    for (const Outgoing& message : out) {
      if (message.bytes.empty()) continue;
      start(::ncclSend(message.bytes.data(), message.bytes.size(), ncclInt8, message.to,
                       nccl_->comm, stream));
    }
    for (const Incoming& message : in) {
      if (message.bytes.empty()) continue;
      start(::ncclRecv(message.bytes.data(), message.bytes.size(), ncclInt8, message.from,
                       nccl_->comm, stream));
    }
    end();
  }

  void all_reduce(std::span<float> values, Device::Lane lane) override {
    begin();
    start(::ncclAllReduce(values.data(), values.data(), values.size(), ncclFloat32, ncclSum,
                          nccl_->comm, stream_of(lane)));
    end();
  }

  bool blocks() const override { return false; }

  void abandon() override { nccl_->close(/*healthy=*/false); }

  void check() override {
    ncclResult_t code = ncclSuccess;
    if (::ncclCommGetAsyncError(nccl_->comm, &code) != ncclSuccess) code = ncclInternalError;
    if (code == ncclSuccess || code == ncclInProgress) return;
    failed_ = true;
    throw nccl_error(io::ErrorKind::peer, code, nccl_->comm, "a message between GPUs has failed");
  }

 private:
  cudaStream_t stream_of(Device::Lane lane) const {
    return static_cast<cudaStream_t>(device_.stream(lane).handle());
  }
  void settle(ncclResult_t code) {
    try {
      nccl_->settle(code, io::ErrorKind::peer, "a message between GPUs has failed");
    } catch (...) {
      failed_ = true;
      throw;
    }
  }
  void begin() {
    region_ = device_.enter(Device::Lane::reduce);
    settle(::ncclGroupStart());
  }
  // Inside a group nothing is in progress yet.
  void start(ncclResult_t code) {
    if (code == ncclInProgress) return;
    settle(code);
  }
  void end() {
    settle(::ncclGroupEnd());
    region_.reset();
  }

  Device& device_;
  std::shared_ptr<Nccl> nccl_;
  std::unique_ptr<Device::Region> region_;
  int unwinding_;
  bool failed_ = false;
};

}  // namespace

std::unique_ptr<DeviceCommunicator> nccl_communicator(Communicator& comm, Device& device,
                                                      const NcclOptions& options) {
  return std::make_unique<NcclCommunicator>(comm, device, options);
}

bool has_nccl() { return true; }

std::string nccl_version() {
  int version = 0;
  if (::ncclGetVersion(&version) != ncclSuccess) return "";
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace hadal::engine
