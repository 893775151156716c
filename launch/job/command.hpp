#pragma once
// Commands of a batch system, run for what they print.

#include <string>
#include <vector>

namespace hadal::launch {

struct CommandResult {
  int code = 0;
  std::string out;
  std::string err;
};

// Waits for the command's end. It sees this process's environment without what a batch system or a
// launcher has put there (SLURM_*, SBATCH_*, PMI*, OMPI_*), which a new job would take for its own;
// SLURM_CONF stays. Throws a launch error where it is not there, or answers later than a controller
// that is busy would (MessageTimeout, at most 100 s).
CommandResult run_command(const std::vector<std::string>& words);

}  // namespace hadal::launch
