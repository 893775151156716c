#pragma once
// What decides the bits and is no config key: the processor, its caches, the libraries. Cache size
// alone changes how oneDNN blocks a convolution. So identity is taken from the arithmetic itself:
// the hash of one forward and backward of the run's own model on a synthetic micro-batch.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/worker_pool.hpp"

namespace hadal::engine {

struct Fingerprint {
  std::uint64_t arithmetic = 0;       // of loss and gradient
  std::int64_t peak_bytes = 0;        // memory that one worker's micro-batch took
  std::vector<std::uint8_t> arrived;  // by arena entry: whether a gradient reached it
};

// One forward and backward of random inputs and zero targets through one worker of the pool, on the
// initial weights (a function of the seed alone). `terms`: of the objective; `device`: where the
// workers compute, null for the host.
Fingerprint training_fingerprint(WorkerPool& pool, const Weights& weights,
                                 const io::DataIndex& index, std::int64_t micro_batch,
                                 std::size_t terms, Device* device);

// The same of one forward pass in evaluation mode; needs no targets.
Fingerprint forward_fingerprint(WorkerPool& pool, const io::DataIndex& index,
                                std::int64_t micro_batch);

// The processor's model name and the vector extensions in use, for manifests and messages.
std::string processor_name();

// Resident memory of this process in bytes: now, and its peak.
std::int64_t resident_bytes();
std::int64_t peak_resident_bytes();

}  // namespace hadal::engine
