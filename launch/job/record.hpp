#pragma once
// What a run folder knows of the jobs that were submitted for it: log/job.json.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launch/job/batch_system.hpp"

namespace hadal::launch {

struct JobRecord {
  BatchSystemAddress address;
  std::string name;
  std::vector<std::string> ids;  // of the last submission, the first one first
};

// Nothing where none was submitted from a place that sees this folder.
std::optional<JobRecord> read_job_record(const std::filesystem::path& run);
void write_job_record(const std::filesystem::path& run, const JobRecord& record);

}  // namespace hadal::launch
