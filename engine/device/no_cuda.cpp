#include "engine/device/device.hpp"
#include "io/error.hpp"

namespace hadal::engine {

std::unique_ptr<Device> cuda_device(int, const DeviceOptions&) {
  throw io::Error(io::ErrorKind::launch,
                  "this program was built without CUDA: build it with \"cmake --preset cuda\", or "
                  "set run.device = \"cpu\"");
}
int cuda_device_count() { return 0; }
std::string cuda_device_address(int) { return ""; }
CudaFacts cuda_device_facts(int) { return {}; }
int cuda_oldest_capability() { return 0; }
std::string cuda_versions() { return ""; }
std::string cuda_trouble() { return "this program was built without CUDA (cmake --preset cuda)"; }

}  // namespace hadal::engine
