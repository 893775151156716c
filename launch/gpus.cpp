#include "launch/gpus.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/device/device_choice.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "io/log.hpp"
#include "launch/environment.hpp"
#include "launch/fabric.hpp"

namespace hadal::launch {
namespace {

io::Error launch_error(const std::string& text) { return {io::ErrorKind::launch, text}; }

std::vector<GpuView> gather_views(engine::Communicator& comm) {
  const GpuView own = own_gpus(comm.host());
  const nlohmann::json told = {
      {"host", own.host}, {"addresses", own.addresses}, {"trouble", own.trouble}};
  std::vector<GpuView> views;
  for (const std::string& text : engine::all_gather_text(comm, told.dump())) {
    const nlohmann::json view = io::parse_json(text);
    views.push_back({view.at("host"), view.at("addresses"), view.at("trouble")});
  }
  return views;
}

}  // namespace

GpuView own_gpus(const std::string& host) {
  GpuView view{.host = host, .addresses = {}, .trouble = engine::cuda_trouble()};
  for (int ordinal = 0; ordinal < engine::cuda_device_count(); ++ordinal) {
    view.addresses.push_back(engine::cuda_device_address(ordinal));
  }
  return view;
}

std::vector<int> gpus_of(const std::vector<GpuView>& ranks, bool shares) {
  std::vector<int> ordinals;
  std::map<std::string, int> on_host;                         // ranks so far
  std::map<std::pair<std::string, std::string>, int> holder;  // of a host's device
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    const GpuView& view = ranks[static_cast<std::size_t>(rank)];
    if (view.addresses.empty()) {
      throw launch_error(
          fmt::format("rank {} on {} sees no GPU: {}; ask for one a rank (job.gpus_per_node), or "
                      "set run.device = \"cpu\"",
                      rank, view.host, view.trouble));
    }
    const int ordinal = on_host[view.host]++ % static_cast<int>(view.addresses.size());
    const std::string& address = view.addresses[static_cast<std::size_t>(ordinal)];
    const auto [other, first] = holder.emplace(std::pair(view.host, address), rank);
    if (!first && !shares) {
      throw launch_error(
          fmt::format("ranks {} and {} on {} would compute on one GPU ({}): start as many ranks a "
                      "host as it has GPUs, or set run.share_gpus = true",
                      other->second, rank, view.host, address));
    }
    ordinals.push_back(ordinal);
  }
  return ordinals;
}

engine::DeviceWish device_wish(const std::string& name) {
  using engine::DeviceWish;
  static const std::map<std::string, DeviceWish> wishes{{"auto", DeviceWish::automatic},
                                                        {"cpu", DeviceWish::cpu},
                                                        {"cuda", DeviceWish::cuda},
                                                        {"twin", DeviceWish::twin}};
  return wishes.at(name);
}

engine::DeviceChoice choose_device(engine::Communicator& comm, const engine::RunOptions& run) {
  using engine::DeviceKind;
  using engine::DeviceWish;
  if (run.device == DeviceWish::cpu) return {};
  if (run.device == DeviceWish::twin) return {DeviceKind::twin, 0};
  const std::vector<GpuView> views = gather_views(comm);
  const auto sees = [](const GpuView& view) { return !view.addresses.empty(); };
  if (run.device == DeviceWish::automatic && std::none_of(views.begin(), views.end(), sees)) {
    return {};
  }
  const std::vector<int> ordinals = gpus_of(views, run.share_gpus);
  // Batches of many sizes would leave holes that nothing fits in.
  set_default("PYTORCH_ALLOC_CONF", "expandable_segments:True");
  if (run.share_gpus && comm.size() > 1) {
    // NCCL takes ranks for those of different hosts then, else it refuses a shared GPU.
    set_default("NCCL_HOSTID", fmt::format("{}-{}", comm.host(), comm.rank()));
  }
  if (comm.rank() == 0 && comm.size() > 1) {
    std::vector<std::string> told{engine::cuda_versions()};
    if (const std::string cards = describe(network_cards()); !cards.empty()) told.push_back(cards);
    for (const auto& [name, value] : network_environment()) told.push_back(name + "=" + value);
    io::log_info(fmt::format("GPUs: {}", fmt::join(told, ", ")));
  }
  return {DeviceKind::cuda, ordinals[static_cast<std::size_t>(comm.rank())]};
}

}  // namespace hadal::launch
