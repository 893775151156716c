#include "engine/device/device_communicator.hpp"
#include "io/error.hpp"

namespace hadal::engine {

std::unique_ptr<DeviceCommunicator> nccl_communicator(Communicator&, Device&, const NcclOptions&) {
  throw io::Error(io::ErrorKind::launch, "this program was built without NCCL");
}
bool has_nccl() { return false; }
std::string nccl_version() { return ""; }

}  // namespace hadal::engine
