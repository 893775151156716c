#include "launch/job/record.hpp"

#include <fmt/format.h>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/run_folder.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

fs::path file_of(const fs::path& run) { return run / "log" / "job.json"; }

}  // namespace

std::optional<JobRecord> read_job_record(const fs::path& run) {
  const fs::path path = file_of(run);
  std::error_code failure;
  if (!fs::exists(path, failure)) return std::nullopt;
  const nlohmann::json document = io::parse_json(io::read_file(path));
  try {
    return JobRecord{.address = {.system = document.at("system"),
                                 .endpoint = document.at("endpoint"),
                                 .token = document.at("token_file").get<std::string>(),
                                 .api = document.at("api")},
                     .name = document.at("name"),
                     .ids = document.at("ids")};
  } catch (const nlohmann::json::exception&) {
    throw io::Error(io::ErrorKind::storage,
                    fmt::format("{} is damaged; name the job with --id", path.string()));
  }
}

void write_job_record(const fs::path& run, const JobRecord& record) {
  const nlohmann::ordered_json document = {{"system", record.address.system},
                                           {"endpoint", record.address.endpoint},
                                           {"token_file", record.address.token.string()},
                                           {"api", record.address.api},
                                           {"name", record.name},
                                           {"ids", record.ids},
                                           {"submitted", utc_now()}};
  io::write_file_atomically(file_of(run), document.dump(1) + "\n");
}

}  // namespace hadal::launch
