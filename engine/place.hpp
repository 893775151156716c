#pragma once
// What the launcher knows about this rank's place.

#include <cstdint>
#include <filesystem>

#include "engine/device/device_choice.hpp"

namespace hadal::engine {

struct Place {
  int workers = 1;                // wished for
  std::int64_t memory_bytes = 0;  // this rank's share of the host's limit; 0: unknown
  DeviceChoice device;
  std::filesystem::path fork_from;  // another run's folder to take the first state from
};

}  // namespace hadal::engine
