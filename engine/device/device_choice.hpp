#pragma once
// What a rank computes on, and what there is to choose from.

#include <string>

namespace hadal::engine {

enum class DeviceKind { cpu, cuda, twin };

inline std::string name_of(DeviceKind kind) {
  return kind == DeviceKind::cpu ? "cpu" : (kind == DeviceKind::cuda ? "cuda" : "twin");
}

struct DeviceChoice {
  DeviceKind kind = DeviceKind::cpu;
  int ordinal = 0;  // of the CUDA devices that this process sees
};

// What this process sees. 0 where there is no driver, and in builds without CUDA.
int cuda_device_count();
// A device as it is known outside of this process (its PCI address): two ranks of a host that see
// the same one share it.
std::string cuda_device_address(int ordinal);
// Why there are none, or "".
std::string cuda_trouble();
// "CUDA 13.0, NCCL 2.28.9", or "" in builds without CUDA.
std::string cuda_versions();

}  // namespace hadal::engine
