#pragma once
// From a split's file patterns to its index, with the work shared over the ranks: rank 0 lists the
// files, every rank scans some of them, all get the same index or the same list of faults.

#include <string>

#include "engine/comm/communicator.hpp"
#include "engine/run_config.hpp"
#include "engine/shared_scan.hpp"
#include "io/data_index.hpp"

namespace hadal::engine {

enum class Split { train, valid, test };

std::string name_of(Split split);

// Collective. Throws a data error that lists every fault of the split on every rank. What
// `known` knows is not scanned again.
io::DataIndex open_dataset(Communicator& comm, const DataOptions& options, Split split,
                           KnownScans* known = nullptr);

// True where the config names files for the split.
bool has_split(const DataOptions& options, Split split);

}  // namespace hadal::engine
