#pragma once
// Checkpoints on disk: one folder each, `step-000000042`, written as `step-000000042.partial` and
// renamed when every file and the manifest are durable. A folder with that name is complete; what
// is damaged later is found by its hashes. One rank works on the store; it is not collective.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "io/hashing_file.hpp"

namespace hadal::io {

struct CheckpointManifest {
  std::int64_t step = 0;
  std::vector<FileDigest> files;
  nlohmann::json run;  // what the engine keeps beside the arrays
};

struct StoredCheckpoint {
  std::filesystem::path folder;
  CheckpointManifest manifest;
};

class CheckpointStore {
 public:
  // Touches nothing: another run's store may be read while that run saves.
  explicit CheckpointStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Removes what a killed save left (`*.partial`). For the run that owns the store.
  void remove_leftovers() noexcept;

  // An empty folder to write the files of `step` into.
  std::filesystem::path begin(std::int64_t step);

  // Where begin() has them written.
  std::filesystem::path partial_folder(std::int64_t step) const;

  // Writes the manifest, makes everything durable and gives the folder its final name. Every file
  // in `manifest.files` must be closed and synced. Returns the final folder.
  std::filesystem::path commit(const CheckpointManifest& manifest);

  // Removes what begin() made; never throws.
  void abandon(std::int64_t step) noexcept;

  // Of the checkpoints, the newest first.
  std::vector<std::int64_t> steps() const;

  // Names in the folder that are none of its own.
  std::vector<std::string> strays() const;

  // The checkpoint error for a store whose checkpoints are all damaged, with the reason of each.
  Error none_usable(const std::vector<std::string>& reasons) const;

  // Removes all but the newest `keep`, and but the steps of which `stays` is true.
  void prune(std::int64_t keep, const std::function<bool(std::int64_t step)>& stays);

  const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

// The manifest alone, checked by its own hash. Throws a checkpoint error that says what is wrong.
StoredCheckpoint read_manifest(const std::filesystem::path& folder);

// The same, and every file is read and compared with its hashes.
StoredCheckpoint open_checkpoint(const std::filesystem::path& folder);

// "step-000000042"
std::string checkpoint_name(std::int64_t step);

}  // namespace hadal::io
