#pragma once
// Samples of a micro-batch mixed with each other: mixup (Zhang et al. 2018, equation 1) and cutmix
// (Yun et al. 2019, equation 1). A sample's partner is the next one in its micro-batch.

#include "io/batch_reader.hpp"

namespace hadal::io {

// Whether training batches of this data are mixed.
bool mixes(const DataIndex& index);

// What this data asks for that a mixed batch cannot give, in words; empty: nothing.
std::string mixing_fault(const DataIndex& index);

// Mixes the inputs that ask for it, and all targets by the same shares: class labels [count] become
// float32 probabilities [count, classes]. Throws a data error for a label that is to be ignored.
void mix_batch(Batch& batch, const DataIndex& index, const Draws& draws);

}  // namespace hadal::io
