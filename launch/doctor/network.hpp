#pragma once
// How hosts reach each other, and whether their clocks agree.

#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "launch/doctor/finding.hpp"

namespace hadal::launch {

struct PairSpeed {
  std::string first;
  std::string second;
  double bytes_per_second = 0;  // each way, both at once
};

// Collective. Every pair of hosts once, a few messages of some MiB each; on every rank.
std::vector<PairSpeed> measure_pairs(engine::Communicator& comm);

Finding judge_pairs(const std::vector<PairSpeed>& pairs);

// Collective. How far each host's clock is from the first one's, in seconds; on every rank.
std::vector<std::pair<std::string, double>> measure_clocks(engine::Communicator& comm);

Finding judge_clocks(const std::vector<std::pair<std::string, double>>& clocks);

}  // namespace hadal::launch
