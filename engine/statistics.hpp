#pragma once
// What a split's inputs are like: exact, over every sample.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

struct InputStatistics {
  std::string name;
  std::int64_t values = 0;   // of a channel
  std::vector<double> mean;  // by channel, the first axis of a sample as a batch holds it
  std::vector<double> std;   // the square root of the mean squared distance from the mean
  std::vector<double> least;
  std::vector<double> most;
};

// Collective. Of every float32 input, whole, after its scale and before its mean and std, which are
// what it is for. Sums are float64, joined in the canonical tree: the same bits for any number of
// ranks and readers. Throws a data error for what cannot be read.
std::vector<InputStatistics> measure_inputs(Communicator& comm, const io::DataIndex& data,
                                            const io::BatchOptions& options);

}  // namespace hadal::engine
