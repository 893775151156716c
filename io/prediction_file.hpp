#pragma once
// An HDF5 file that several processes fill at once without a parallel HDF5: one of them creates it
// with every dataset contiguous and allocated, all write rows at known offsets, and it gets its
// name when the last row is there. A journal beside it, one file a process, says which blocks of
// rows are durable, so that a later start goes on from there with any number of processes.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.hpp"
#include "io/hdf5_writer.hpp"

namespace hadal::io {

class PredictionFile {
 public:
  // What all processes must agree on to write.
  struct Plan {
    std::vector<ShardField> fields;
    std::vector<std::int64_t> offsets;  // of each dataset's first byte
    std::vector<std::int64_t> done;     // blocks that are durable already, ascending
  };

  // By one process: takes up an unfinished file of the same `identity`, or creates a new one for
  // `rows` rows. Throws a storage error.
  static Plan prepare(const std::filesystem::path& path, const std::vector<ShardField>& fields,
                      std::int64_t rows, const nlohmann::json& identity);

  // By every process, after prepare(). `writer` numbers it.
  PredictionFile(const std::filesystem::path& path, Plan plan, int writer);

  // Rows from `first` on of field `field`. Any thread.
  void write(std::size_t field, std::int64_t first, std::span<const std::byte> rows);

  // Makes everything written durable and then notes these blocks in the journal.
  void commit(std::span<const std::int64_t> blocks);

  // By one process, when all have committed: gives the file its name and removes the journals.
  static void finish(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  Plan plan_;
  UniqueFd data_;
  UniqueFd journal_;
  std::int64_t journal_bytes_ = 0;
  std::filesystem::path journal_path_;
};

void to_json(nlohmann::json& json, const PredictionFile::Plan& plan);
void from_json(const nlohmann::json& json, PredictionFile::Plan& plan);

}  // namespace hadal::io
