#include "engine/device/device_communicator.hpp"

#include <c10/core/Device.h>

namespace hadal::engine {

std::unique_ptr<DeviceCommunicator> connect_devices(Communicator& comm, Device& device,
                                                    const NcclOptions& options) {
  if (comm.size() > 1 && device.tensors().is_cuda() && has_nccl()) {
    return nccl_communicator(comm, device, options);
  }
  return staged_communicator(comm, device);
}

}  // namespace hadal::engine
