#pragma once
// Which GPU a rank computes on: out of those that it sees, which are all of a host's or those that
// the scheduler has left it.

#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/place.hpp"
#include "engine/run_config.hpp"

namespace hadal::launch {

// What a rank knows of its host.
struct GpuView {
  std::string host;
  std::vector<std::string> addresses;  // of the devices it sees, in their order
  std::string trouble;                 // why there are none
};

GpuView own_gpus(const std::string& host);

// One view a rank, in rank order. The numbers of their devices, each in its own view: the first
// ranks of a host take the first devices, and where the scheduler has given each its own, that.
// Throws a launch error where a rank sees none, and, unless `shares`, where two would have one.
std::vector<int> gpus_of(const std::vector<GpuView>& ranks, bool shares);

// Of run.device: auto, cpu, cuda, twin.
engine::DeviceWish device_wish(const std::string& name);

// Collective. Settles run.device: `automatic` takes GPUs where every rank sees one.
engine::DeviceChoice choose_device(engine::Communicator& comm, const engine::RunOptions& run);

}  // namespace hadal::launch
