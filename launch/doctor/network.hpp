#pragma once
// How hosts reach each other, and whether their clocks agree.

#include <functional>
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

// Collective. Every pair of hosts once, between their first ranks; on every rank. `measure` has
// two ranks send to each other, and gives the bytes per second each way; every rank calls it as
// often, with -1 where it has no partner.
std::vector<PairSpeed> measure_pairs(engine::Communicator& comm,
                                     const std::function<double(int)>& measure);

// A few messages of some MiB each, by MPI.
std::vector<PairSpeed> measure_pairs(engine::Communicator& comm);

// `what` is the way between them.
Finding judge_pairs(const std::string& what, const std::vector<PairSpeed>& pairs);

// Collective. How far each host's clock is from the first one's, in seconds; on every rank.
std::vector<std::pair<std::string, double>> measure_clocks(engine::Communicator& comm);

Finding judge_clocks(const std::vector<std::pair<std::string, double>>& clocks);

}  // namespace hadal::launch
