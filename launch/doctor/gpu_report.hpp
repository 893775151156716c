#pragma once
// GPUs, and the ways between them: on a host by NVLink or PCI Express, over the network by cards
// that read a GPU's memory themselves.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/device/device.hpp"
#include "engine/device/device_communicator.hpp"
#include "launch/doctor/finding.hpp"
#include "launch/doctor/network.hpp"
#include "launch/fabric.hpp"
#include "launch/gpus.hpp"

namespace hadal::launch {

// What a rank sees.
struct GpuReport {
  GpuView view;
  std::string driver;                   // "580.65.06"; "": no NVIDIA driver on this host
  bool network_reads = false;           // its network cards may read GPU memory (GPUDirect RDMA)
  std::vector<engine::CudaFacts> gpus;  // in the order of the view's
  std::vector<NetworkCard> cards;
  std::vector<Setting> environment;  // for NCCL and libfabric
};

// `root` is where /proc and /sys are.
GpuReport own_gpu_report(const std::string& host, const std::filesystem::path& root = "/");

// Collective. In rank order, on every rank.
std::vector<GpuReport> gather_gpu_reports(engine::Communicator& comm);

// Nothing where no host has an NVIDIA driver. `oldest`: see engine::cuda_oldest_capability().
Findings judge_gpus(const std::vector<GpuReport>& reports, bool shares, int oldest);

// Collective: every pair of hosts, between GPUs of their first ranks.
std::vector<PairSpeed> measure_gpu_pairs(engine::Communicator& comm, engine::Device& device,
                                         engine::DeviceCommunicator& messages);

}  // namespace hadal::launch
