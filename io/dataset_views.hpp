#pragma once
// Other ways to see a dataset than as rows that are samples.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/hdf5_file.hpp"

namespace hadal::io {

// Makes all of a dataset, described row by row, its only row. Throws a data error, in which `where`
// names it, where only the library can read it.
void make_one_row(StoredDataset& stored, const std::string& where);

// Series number `series` of a dataset [series, rows, …], as a dataset [rows, …]. Throws a data
// error, in which `where` names it, where it has no such axes.
StoredDataset series_of(const StoredDataset& stored, std::int64_t series, const std::string& where);

// Where the samples of a dataset whose samples have different numbers of rows begin, and behind
// them where the last one ends: n + 1 numbers.
using Bounds = std::shared_ptr<const std::vector<std::int64_t>>;

// From a dataset of whole numbers in the same file: of the rows where samples begin (with or
// without the end of the last one; all but the end where the last number is that of all rows), or
// of how many rows each has (`are_lengths`). Throws a data error where they do not fit a dataset of
// `rows` rows.
Bounds read_bounds(const Hdf5File& file, const std::string& dataset, bool are_lengths,
                   std::int64_t rows, const std::string& where);

}  // namespace hadal::io
