#pragma once
// A run as a job of a batch system: [job] of its config, and what the rest of the config says about
// it. The forms (forms.hpp) are texts of this; nothing here asks a network or MPI.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/config.hpp"
#include "launch/job/options.hpp"

namespace hadal::launch {

struct JobDescription {
  JobOptions options;
  std::vector<std::string> given;  // keys of [job] that no default set, "job.queue"
  // Of the job: the run's, and what tells its folder from others. The same for every submission.
  std::string name;
  std::filesystem::path run;
  std::filesystem::path config;  // where the job finds it
  std::vector<std::string> settings;
  std::string config_text;         // not empty: the job brings its config itself
  std::vector<std::string> binds;  // folders that a container must see
  std::int64_t signal_lead = 0;    // seconds
  int slurmrestd = 38;             // version of its interface, as it names it: v0.0.38

  std::filesystem::path log() const { return run / "log"; }
  std::filesystem::path script() const { return log() / "job.sh"; }
  bool is_self_contained() const { return !config_text.empty(); }
  bool has(const std::string& key) const;
};

// What a job costs besides its time.
struct JobNeeds {
  std::int64_t micro_batches = 0;
  std::int64_t memory_per_node = 0;  // bytes, with one worker a rank
  std::int64_t checkpoint_bytes = 0;
  std::int64_t checkpoints = 0;  // that lie there at once
};

enum class ConfigPlace { where_it_is, inside };

// Throws one config error that lists every contradiction. Without `needs` nothing is said about
// this place: data, memory, disk and whether the nodes share a folder.
JobDescription describe_job(const LoadedConfig& config, const std::filesystem::path& config_file,
                            ConfigPlace place, const std::optional<JobNeeds>& needs);

}  // namespace hadal::launch
