#include "launch/fabric.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "engine/device/device_choice.hpp"
#include "launch/environment.hpp"
#include "launch/system_file.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

// Sorted; empty where there is no such folder.
std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code failure;
  for (fs::directory_iterator entry(folder, failure), end; !failure && entry != end;
       entry.increment(failure)) {
    found.push_back(entry->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

double number(const std::string& text) { return std::strtod(text.c_str(), nullptr); }

bool has_libfabric_plugin() {
  for (const char* library : {"libnccl-net-ofi.so", "libnccl-net.so"}) {
    if (void* const handle = ::dlopen(library, RTLD_LAZY | RTLD_LOCAL)) {
      ::dlclose(handle);
      return true;
    }
  }
  return false;
}

}  // namespace

std::vector<NetworkCard> network_cards(const fs::path& system) {
  std::vector<NetworkCard> cards;
  for (const fs::path& card : entries(system / "class/infiniband")) {
    for (const fs::path& port : entries(card / "ports")) {
      const std::string name = card.filename().string();
      const std::string number_of_port = port.filename().string();
      cards.push_back(
          {.name = number_of_port == "1" ? name : name + ":" + number_of_port,
           .link = first_line(port / "link_layer") == "InfiniBand" ? "InfiniBand" : "RoCE",
           .gigabits = number(first_line(port / "rate")),  // "400 Gb/sec (4X NDR)"
           .up = first_line(port / "state").ends_with("ACTIVE")});
    }
  }
  for (const fs::path& card : entries(system / "class/cxi")) {
    NetworkCard found{.name = card.filename().string(), .link = "Slingshot", .up = true};
    for (const fs::path& interface : entries(card / "device/net")) {
      found.gigabits = std::max(0.0, number(first_line(interface / "speed")) / 1000);
      found.up = first_line(interface / "operstate") == "up";
    }
    cards.push_back(found);
  }
  return cards;
}

std::string describe(const std::vector<NetworkCard>& cards) {
  std::map<std::pair<std::string, double>, int> kinds;
  for (const NetworkCard& card : cards) {
    if (card.up) ++kinds[{card.link, card.gigabits}];
  }
  std::vector<std::string> parts;
  for (const auto& [kind, count] : kinds) {
    parts.push_back(fmt::format("{} x {}{}", count, kind.first,
                                kind.second > 0 ? fmt::format(", {:.0f} Gb/s", kind.second) : ""));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

std::vector<Setting> fabric_settings(const std::vector<NetworkCard>& cards) {
  const auto usable = [](const NetworkCard& card) { return card.up && card.link == "Slingshot"; };
  if (std::none_of(cards.begin(), cards.end(), usable)) return {};
  // HPE's own choice (github.com/HewlettPackard/shs-ccl-docs, ccl_env.sh, as centres give it to
  // their users in 2026). Without the first two, allocations on a GPU can wait for messages for
  // ever; with other protocols, NCCL's LL128 has damaged data (github.com/NVIDIA/nccl/issues/2001).
  return {{"FI_CXI_DISABLE_HOST_REGISTER", "1"}, {"FI_MR_CACHE_MONITOR", "userfaultfd"},
          {"FI_CXI_DEFAULT_CQ_SIZE", "131072"},  {"FI_CXI_DEFAULT_TX_SIZE", "2048"},
          {"FI_CXI_RDZV_PROTO", "alt_read"},     {"FI_CXI_RDZV_THRESHOLD", "0"},
          {"FI_CXI_RDZV_GET_MIN", "0"},          {"FI_CXI_RDZV_EAGER_SIZE", "0"},
          {"FI_CXI_RX_MATCH_MODE", "hybrid"},    {"NCCL_CROSS_NIC", "1"},
          {"NCCL_NET_GDR_LEVEL", "PHB"},         {"NCCL_SOCKET_IFNAME", "hsn"}};
}

void tune_fabric() {
  if (engine::cuda_versions().empty() || !fs::exists("/dev/nvidiactl")) return;
  const std::vector<Setting> settings = fabric_settings(network_cards());
  for (const auto& [name, value] : settings) set_default(name, value);
  // With its name, NCCL does not fall back to TCP where the plugin cannot start.
  if (!settings.empty() && has_libfabric_plugin()) set_default("NCCL_NET", "AWS Libfabric");
}

std::vector<Setting> network_environment() {
  std::vector<Setting> settings;
  for (const char* prefix : {"NCCL_", "FI_", "OFI_NCCL_"}) {
    for (const auto& variable : variables_with_prefix(prefix)) settings.push_back(variable);
  }
  return settings;
}

}  // namespace hadal::launch
