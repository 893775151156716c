#pragma once
// Reads and looks at everything that training would read, before it does.

#include <string>
#include <vector>

#include "io/batch_reader.hpp"
#include "io/data_index.hpp"

namespace hadal::io {

// Every sample of the data that cannot be read or must not be trained on, and every file that is
// not what a list of checksums beside it says (`hadal pack` writes one); at most `most` faults, in
// the order of the samples. On `options.readers` threads.
std::vector<std::string> deep_check(const DataIndex& index, const BatchOptions& options,
                                    std::size_t most = 100);

}  // namespace hadal::io
