#pragma once
// The folder of a run, as people and other programs see it. One rank writes it; a second live run
// in the same folder is refused.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/run.hpp"
#include "io/atomic_file.hpp"
#include "launch/config.hpp"
#include "launch/lease.hpp"

namespace hadal::launch {

struct Status {
  std::string state = "running";  // running, done, stopped, failed
  int code = 0;
  std::string reason;
  std::int64_t step = 0;
  std::int64_t steps = 0;
  double epoch = 0;
  std::string message;
  int rank = 0;
  std::string host;
  std::string phase;
  std::string model;
  std::string checkpoint;
  nlohmann::json metrics = nlohmann::json::object();
};

// status.json of a run folder, atomically.
void write_status(const std::filesystem::path& folder, const Status& status);

// log/exit-ATTEMPT: "code reason step stalls", ATTEMPT from $HADAL_ATTEMPT. `first_step` steps were
// done when the attempt began; a stall is an attempt that failed or stopped without a new one.
void write_exit(const std::filesystem::path& folder, const Status& status, std::int64_t first_step);

class RunFolder {
 public:
  // Creates the folder and takes its lease. Throws a launch error naming the owner where a live run
  // has it, a storage error where it cannot be written.
  explicit RunFolder(std::filesystem::path folder);

  // config.toml, config.resolved.toml, manifest.json.
  void write_descriptions(const LoadedConfig& config, const nlohmann::json& manifest);

  // What the start before has told last of how far the run is: until this one knows.
  void read_progress(Status& status) const;
  void write_status(const Status& status) const { launch::write_status(folder_, status); }
  // The same while the run goes on: what another rank has told of its end stays.
  void update_status(const Status& status) const;
  void write_exit(const Status& status, std::int64_t first_step) const {
    launch::write_exit(folder_, status, first_step);
  }

  // Drops metrics lines of steps behind `step` (a killed run may have written ahead of its
  // checkpoint) and opens metrics.jsonl for append_metrics.
  void open_metrics(std::int64_t step);
  void append_metrics(const nlohmann::ordered_json& line);

  // A file STOP asks a run to end.
  bool stop_requested() const;

  const std::filesystem::path& path() const { return folder_; }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<Lease> lease_;
  io::UniqueFd metrics_;
};

// Seconds since 1970 as "2026-01-31T12:00:00Z".
std::string utc_now();

}  // namespace hadal::launch
