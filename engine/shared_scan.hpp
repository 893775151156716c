#pragma once
// A scan of many files shared out over the ranks. The chunk tables that it finds, the large part,
// are kept once a host.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/wishes.hpp"
#include "io/scan_cache.hpp"

namespace hadal::engine {

// What a start knows of files from one before, and tells the next.
struct KnownScans {
  io::ScanCache before;  // the same on every rank
  io::ScanCache after;   // on rank 0
  bool is_new = false;   // whether the two differ, on every rank
  AskStop ask_stop;      // asked between two files, if given
};

// Collective. What the file `cache` holds; nothing where it is missing or damaged.
KnownScans read_known(Communicator& comm, const std::filesystem::path& cache);

// By rank 0, where something is new. A start that cannot keep what it has found costs the next one
// a scan, no more: it says so in the log.
void write_known(const Communicator& comm, const std::filesystem::path& cache,
                 const KnownScans& known);

// Collective. By file, the same on every rank. Each rank has the library look at one of the files
// that it knows; where that is not as it was, it scans all of its own anew.
// Throws Stopped where a rank wishes to stop meanwhile.
std::vector<io::FileScans> scan_together(Communicator& comm, const std::vector<std::string>& files,
                                         const std::vector<io::DatasetQuery>& queries,
                                         KnownScans& known);

}  // namespace hadal::engine
