#pragma once
// Ranks that exchange what lies on their devices. Calls are collective and queue into a lane; the
// devices carry them out in order. Two ways: NCCL between GPUs, or through the hosts' memory and
// the ranks' communicator, for the twin and for GPUs without NCCL.

#include <memory>
#include <span>

#include "engine/comm/communicator.hpp"
#include "engine/device/device.hpp"

namespace hadal::engine {

class DeviceCommunicator {
 public:
  virtual ~DeviceCommunicator() = default;

  virtual std::string name() const = 0;
  // Zeros on the device, good to be sent from and received into without copies. Collective, with
  // the same size on all ranks.
  virtual Device::Memory allocate(std::size_t bytes) = 0;
  // Messages between two ranks match in the order in which they are listed, and have the same size
  // on both sides. All bytes are device memory. No rank sends to itself.
  virtual void exchange(std::span<const Outgoing> out, std::span<const Incoming> in,
                        Device::Lane lane) = 0;
  // The sum over the ranks in whatever order the library likes.
  virtual void all_reduce(std::span<float> values, Device::Lane lane) = 0;
  // Whether calls wait for the other ranks: then none may be made before all are sure to come.
  virtual bool blocks() const = 0;
  // Throws a peer error where something under way has failed. Whoever waits for a lane asks.
  virtual void check() {}
  // Not collective. Gives up what is under way, so that no lane waits for ranks that are gone; no
  // other call may follow.
  virtual void abandon() {}
};

// Both must outlive it.
std::unique_ptr<DeviceCommunicator> staged_communicator(Communicator& comm, Device& device);

struct NcclOptions {
  double timeout = 1800;  // seconds to find each other
  int most_blocks = 0;    // thread blocks of a message; 0: NCCL's choice
};

// Collective. Throws a launch error, agreed, with what NCCL says where the ranks do not find each
// other; of no_nccl.cpp in builds without NCCL.
std::unique_ptr<DeviceCommunicator> nccl_communicator(Communicator& comm, Device& device,
                                                      const NcclOptions& options);
bool has_nccl();
// Collective. NCCL between GPUs where this build has it, else through the hosts.
std::unique_ptr<DeviceCommunicator> connect_devices(Communicator& comm, Device& device,
                                                    const NcclOptions& options);
// "2.28.9", or "".
std::string nccl_version();

}  // namespace hadal::engine
