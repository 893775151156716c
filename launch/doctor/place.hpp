#pragma once
// What every rank knows of its host without asking others, and what follows from all of it.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "launch/doctor/finding.hpp"

namespace hadal::launch {

struct RankPlace {
  std::string host;
  std::string processor;
  std::vector<int> cores;  // physical ones of the affinity mask
  std::int64_t memory_bytes = 0;
  std::int64_t shared_memory_bytes = 0;  // free in /dev/shm
  std::int64_t open_files = 0;           // the limit
  std::int64_t locked_bytes = 0;         // the limit; INT64_MAX: none
  bool infiniband = false;
};

// What a run will want of it.
struct PlaceWishes {
  int threads = 1;
  std::int64_t shared_memory_per_host = 64 << 20;
};

RankPlace own_place(const std::string& host);

// Collective. In rank order, on every rank.
std::vector<RankPlace> gather_places(engine::Communicator& comm);

Findings judge_places(const std::vector<RankPlace>& places, const PlaceWishes& wishes);

}  // namespace hadal::launch
