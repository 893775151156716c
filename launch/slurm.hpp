#pragma once
// Slurm, where this process runs in one of its jobs: its library is opened when it is asked, so
// that one program serves places with and without it.

#include <cstdint>

namespace hadal::launch {

// When Slurm will end job `job`, in seconds since 1970; 0 where its library is not found here or
// does not know, which the log tells once. Asks in a process of its own, since the library ends the
// process where Slurm is not set up (slurm_init) or its plugins do not fit. May take some seconds
// where the controller is slow.
double slurm_end_time(std::uint32_t job);

// The same in this process, for that one: prints the seconds, or why there are none on standard
// error. Returns the exit code.
int tell_slurm_end(std::uint32_t job);

}  // namespace hadal::launch
