#pragma once
// Which classes the samples of a dataset are of.

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "engine/run_config.hpp"
#include "io/data_index.hpp"

namespace hadal::engine {

using LabelCounts = std::map<std::int64_t, std::int64_t>;

// How often each label is there among these samples, of the target that is field number `field`;
// labels to be ignored are not counted. Throws a data error for what cannot be read.
LabelCounts count_labels(const io::DataIndex& data, std::size_t field,
                         std::span<const std::int64_t> samples, const io::BatchOptions& options);

// Where the first steps of an epoch hold less than half of the classes, though enough samples for
// all of them: what to do about it, in words. Else empty. Reads the labels of those steps, unless
// the order is a full shuffle.
std::string poor_mix(const RunConfig& config, const io::DataIndex& data);

}  // namespace hadal::engine
