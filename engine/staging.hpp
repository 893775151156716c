#pragma once
// Copies of the data files on storage of the nodes' own, made before the first step: random reads
// then cost shared storage nothing.

#include <cstdint>
#include <filesystem>
#include <utility>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/wishes.hpp"
#include "io/data_index.hpp"

namespace hadal::engine {

// Removes a host's copies with itself; one rank of the host holds them.
class StagedCopies {
 public:
  StagedCopies() = default;
  explicit StagedCopies(std::filesystem::path folder) : folder_(std::move(folder)) {}
  ~StagedCopies();
  StagedCopies(StagedCopies&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
  StagedCopies& operator=(StagedCopies&& other) noexcept {
    std::swap(folder_, other.folder_);
    return *this;
  }

 private:
  std::filesystem::path folder_;
};

struct StagingReport {
  std::int64_t bytes = 0;       // of the files
  std::int64_t read_bytes = 0;  // by this rank, from where the files are
  std::int64_t hosts = 0;       // that have a copy
  double seconds = 0;
  StagedCopies copies;
};

// Collective. Copies the files of the indices (the same on every rank) into a folder of each host's
// own below `place`, and points the indices to them. The ranks share out the reading, so each byte
// is read once in the whole job, and pass on what they read, with a checksum, to one rank of every
// other host. A host without room for all of it reads from where the files are, and says so; a copy
// that a killed run has left whole is taken as it is. Throws a storage error for what cannot
// be read or written, and Stopped where a rank wishes to stop meanwhile (`ask_stop`, if given).
StagingReport stage(Communicator& comm, const std::filesystem::path& place,
                    const std::vector<io::DataIndex*>& indices, const AskStop& ask_stop = {});

}  // namespace hadal::engine
