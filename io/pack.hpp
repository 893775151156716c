#pragma once
// Makes HDF5 shards out of what people have: tables (CSV, CSV.gz), numpy's arrays, folders of
// images or of sounds with a folder a class, text, other HDF5 files; split into a training and a
// validation part by a seeded bijection of the rows. Ranks share out the shards; a shard that is
// there already from the same source and options is left alone, so an interrupted pack goes on.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/hdf5_writer.hpp"

namespace hadal::io {

enum class SourceKind { automatic, table, arrays, datasets, images, audio, text };
enum class RowOrder { automatic, source, shuffled };  // automatic: shuffled where files are rows

struct PackOptions {
  std::vector<std::filesystem::path> sources;  // files, or one folder
  std::filesystem::path output;                // folder
  SourceKind kind = SourceKind::automatic;     // told from the sources
  std::string input_columns;                   // tables: "0-63", "a,b,c", "3,5-7"
  std::string target_columns;
  std::string input_path = "x";  // names of the shards' datasets; members of an .npz file
  std::string target_path = "y";
  Shape input_shape;                  // of one sample; empty: [columns], or the array's own
  DType input_dtype = DType::f32;     // of tables and arrays: float32 or uint8
  DType target_dtype = DType::i64;    // int64 or float32
  char delimiter = ',';               // of tables
  std::vector<std::string> datasets;  // of HDF5 sources; none: all with a row a sample
  Shape image_size;                   // images: [height, width]
  std::int64_t channels = 3;          // images: 1 or 3
  std::int64_t sample_rate = 16000;   // audio: of all files, in Hz
  double seconds = 1;                 // audio: of a sample; cut, or filled with silence
  std::int64_t mels = 64;             // audio: bands of the spectrogram
  std::int64_t tokens = 256;          // text: bytes of a sample
  std::int64_t shards = 1;            // of the training part; the validation part is one
  double valid_fraction = 0.2;
  std::uint64_t seed = 0;
  RowOrder order = RowOrder::automatic;
  ShardLayout layout;
};

// Which ranks share the work.
struct PackShare {
  int rank = 0;
  int ranks = 1;
};

struct PackedFile {
  std::filesystem::path path;
  std::int64_t rows = 0;
  std::int64_t bytes = 0;
  std::string checksum;  // XXH3, 64 bits, in hexadecimal
  bool kept = false;     // it was there
};

struct PackResult {
  std::int64_t train_samples = 0;
  std::int64_t valid_samples = 0;
  std::vector<PackedFile> files;  // of this rank
  std::vector<std::string> classes;
};

// Writes this rank's share of `train-0000.h5` … and `valid-0000.h5`. Throws a data error that names
// the place, a usage error for options that do not fit the source or an output folder that holds
// other shards, or a storage error.
PackResult pack(const PackOptions& options, const PackShare& share = {});

// The list of all shards with their checksums, beside them: what `hadal check --data --deep`
// compares.
constexpr const char* kPackList = "pack.json";
void write_pack_list(const std::filesystem::path& folder, const PackResult& all);

}  // namespace hadal::io
