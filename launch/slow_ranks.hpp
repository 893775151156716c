#pragma once
// Which ranks keep the others waiting, and with what: one slow disk or a throttled processor makes
// the whole job as slow as it is.

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/trainer.hpp"

namespace hadal::launch {

class SlowRanks {
 public:
  // `hosts` by rank.
  explicit SlowRanks(std::vector<std::string> hosts) : hosts_(std::move(hosts)) {}

  // Takes the times of a step; a line for each rank that has been much slower than most for many
  // steps, once for each rank and reason.
  std::vector<std::string> take(const std::vector<engine::RankTimes>& step);

 private:
  std::vector<std::string> hosts_;
  std::vector<engine::RankTimes> sums_;
  int steps_ = 0;
  std::set<std::pair<std::size_t, std::string>> told_;
};

}  // namespace hadal::launch
