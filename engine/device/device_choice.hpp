#pragma once
// What a rank computes on, and what there is to choose from.

#include <cstddef>
#include <string>
#include <vector>

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
struct CudaFacts {
  std::string name;           // as its maker calls it
  int capability = 0;         // compute capability 9.0 is 90
  std::size_t bytes = 0;      // of memory
  std::vector<bool> reaches;  // by ordinal: it reads that device's memory itself
  std::vector<bool> linked;   // and changes it too, which only NVLink lets it
};
CudaFacts cuda_device_facts(int ordinal);
// The least compute capability that this build has kernels for.
int cuda_oldest_capability();
// Why there are none, or "".
std::string cuda_trouble();
// "CUDA 13.0, NCCL 2.28.9", or "" in builds without CUDA.
std::string cuda_versions();

}  // namespace hadal::engine
