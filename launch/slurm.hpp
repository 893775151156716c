#pragma once
// Slurm, where this process runs in one of its jobs: its library is opened when it is asked, so
// that one program serves places with and without it.

#include <cstdint>

namespace hadal::launch {

// When Slurm will end job `job`, in seconds since 1970; 0 where its library is not found here or
// does not know, which the log tells once. May take some seconds where the controller is slow.
double slurm_end_time(std::uint32_t job);

}  // namespace hadal::launch
