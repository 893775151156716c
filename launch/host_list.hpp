#pragma once
// Names of hosts as Slurm writes them: "n[008-011,20],login" (scontrol(1), show hostlist), and the
// plain lists with commas that others put into the same variables.

#include <string>
#include <vector>

namespace hadal::launch {

// Every name, in the list's order; zeros in front of a number stay. Throws a launch error with the
// list and the column where it is none.
std::vector<std::string> expand_host_list(const std::string& list);

}  // namespace hadal::launch
