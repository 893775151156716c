#pragma once
// The network between hosts as the system lists it, and what NCCL and libfabric are told for it.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace hadal::launch {

struct NetworkCard {
  std::string name;     // "mlx5_0", "cxi0"
  std::string link;     // "InfiniBand", "RoCE", "Slingshot"
  double gigabits = 0;  // a second; 0: not told
  bool up = false;
};

// Of this host; `system` is where its kernel tells of itself.
std::vector<NetworkCard> network_cards(const std::filesystem::path& system = "/sys");

// "2 x InfiniBand, 400 Gb/s", those that are up; "" where there are none.
std::string describe(const std::vector<NetworkCard>& cards);

using Setting = std::pair<std::string, std::string>;

// Environment variables for NCCL over such cards. None for InfiniBand, RoCE and plain Ethernet,
// where NCCL finds the best by itself.
std::vector<Setting> fabric_settings(const std::vector<NetworkCard>& cards);

// Sets those that have no value, on hosts with GPUs, and has NCCL use libfabric where its plugin
// for that can be loaded. Call before MPI starts: its libfabric may be NCCL's, and reads them once.
void tune_fabric();

// What the environment tells NCCL and libfabric, whoever has set it.
std::vector<Setting> network_environment();

}  // namespace hadal::launch
