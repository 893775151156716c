#pragma once
// What the axes of a sample stand for.

#include <cstddef>
#include <string>

#include "io/data_index.hpp"

namespace hadal::io {

// The axes of a sample in a batch by their letters, channels first: "CHW", "HW".
std::string axes_of(const FieldOptions& options, std::size_t axes);

// How many of them are of space: all but the channels.
std::size_t spatial_axes(const std::string& letters);

}  // namespace hadal::io
