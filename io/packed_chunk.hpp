#pragma once
// One chunk of a dataset as HDF5's filters would write it.

#include <cstddef>
#include <span>
#include <vector>

#include "io/hdf5_writer.hpp"

namespace hadal::io {

// `raw` as planes of bytes (where a value has more than one) and then packed by `filter`, which is
// not none. `value_bytes`: of one value.
std::vector<std::byte> pack_chunk(std::span<const std::byte> raw, ShardFilter filter,
                                  std::size_t value_bytes);

}  // namespace hadal::io
