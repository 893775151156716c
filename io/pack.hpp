#pragma once
// Makes HDF5 shards out of tables of numbers (CSV, CSV.gz) and pairs of .npy arrays, split into a
// training and a validation part by a seeded bijection of the rows.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::io {

struct PackOptions {
  std::vector<std::filesystem::path> sources;  // one table, or an input .npy and a target .npy
  std::filesystem::path output;                // folder
  std::string input_columns;                   // tables: "0-63", "a,b,c", "3,5-7"
  std::string target_columns;
  std::string input_path = "x";  // dataset names
  std::string target_path = "y";
  Shape input_shape;                // of one sample; empty: [columns], or the array's own
  DType input_dtype = DType::f32;   // float32 or uint8
  DType target_dtype = DType::i64;  // int64 or float32
  std::int64_t shards = 1;          // of the training part; the validation part is one shard
  double valid_fraction = 0.2;
  std::uint64_t seed = 0;
  char delimiter = ',';
};

struct PackResult {
  std::int64_t train_samples = 0;
  std::int64_t valid_samples = 0;
  std::vector<std::filesystem::path> files;
};

// Writes `train-0000.h5` … and `valid-0000.h5`. Throws a data error that names file, line and
// column, a usage error for options that do not fit the source, or a storage error.
PackResult pack(const PackOptions& options);

}  // namespace hadal::io
