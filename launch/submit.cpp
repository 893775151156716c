// The verbs that speak to a batch system: submit, status, cancel.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/needs.hpp"
#include "launch/job/record.hpp"
#include "launch/job/script.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct KnownJob {
  fs::path run;
  JobRecord record;
};

// The job of a config or run folder; what the command line says of it wins.
KnownJob find_job(const JobArguments& arguments) {
  KnownJob job;
  if (fs::is_directory(arguments.config.config)) {
    job.run = fs::absolute(arguments.config.config).lexically_normal();
    if (!job.run.has_filename()) job.run = job.run.parent_path();
  } else {
    job.run = load_config(arguments.config.config, arguments.config.settings).run.run.dir;
  }
  const std::optional<JobRecord> record = read_job_record(job.run);
  if (record) {
    job.record = *record;
  } else if (arguments.id.empty()) {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("no job was submitted for {} from here; \"hadal submit\" does that, "
                    "--id and --to name one that is known otherwise",
                    job.run.string()));
  }
  if (!arguments.id.empty()) {
    // This one and no other: not what else has the run's name.
    job.record.ids = {arguments.id};
    job.record.name.clear();
  }
  BatchSystemAddress& address = job.record.address;
  if (!arguments.address.system.empty()) address.system = arguments.address.system;
  if (!arguments.address.endpoint.empty()) address.endpoint = arguments.address.endpoint;
  if (!arguments.address.token.empty()) address.token = arguments.address.token;
  if (arguments.address.api > 0) address.api = arguments.address.api;
  return job;
}

// A run's own word, where the folder is seen from here.
nlohmann::json status_of_run(const fs::path& run) {
  std::error_code failure;
  const fs::path path = run / "status.json";
  if (!fs::exists(path, failure)) return nullptr;
  return io::parse_json(io::read_file(path));
}

// The job that matters of those of one submission: the one that runs, else the first that waits,
// else the last.
JobReport report_of(BatchSystem& system, const JobRecord& record) {
  JobReport best;
  for (const std::string& id : record.ids) {
    best = system.report(id, record.name);
    if (is_alive(best.state)) break;
  }
  return best;
}

BatchSystemAddress with_defaults(BatchSystemAddress address) {
  if (address.system.empty()) address.system = "slurm";
  if (address.api == 0) address.api = kOldestSlurmrestd;
  if (!address.token.empty()) address.token = fs::absolute(address.token);
  return address;
}

}  // namespace

int submit(const SubmitArguments& arguments) {
  const BatchSystemAddress address = with_defaults(arguments.address);
  const auto system = reach(address);
  if (arguments.times > 1 && address.system == "qcg") {
    throw io::Error(io::ErrorKind::usage,
                    "--times needs jobs that wait for each other, which QCG has not");
  }
  const LoadedConfig config = load_config(arguments.config.config, arguments.config.settings);
  const JobDescription job =
      describe_job(config, arguments.config.config,
                   arguments.self_contained ? ConfigPlace::inside : ConfigPlace::where_it_is,
                   arguments.check ? std::optional(find_needs(config)) : std::nullopt);
  const std::string preview = system->preview(job);
  if (arguments.dry_run) {
    fmt::print("{}", preview);
    return 0;
  }
  // Slurm opens the log before the script begins, and fails without a word where its folder is not.
  // A job that brings its config may run where nothing is seen from here.
  const bool by_commands = address.system == "slurm";
  const bool seen_from_here =
      by_commands || !job.is_self_contained() || fs::exists(job.run.parent_path());
  if (seen_from_here) io::create_folders(job.log());
  if (by_commands || !job.is_self_contained()) {
    const bool by_slurm = by_commands || address.system == "slurmrestd";
    io::write_file_atomically(job.script(),
                              by_slurm ? render(find_form("slurm"), job) : whole_script(job, {}));
  }
  JobRecord record{.address = address, .name = job.name, .ids = {}};
  for (int i = 0; i < arguments.times; ++i) {
    record.ids.push_back(system->submit(job));
    // Each at once: what is submitted can be cancelled, whatever becomes of the next one.
    if (seen_from_here) write_job_record(job.run, record);
  }
  fmt::print("submitted: {}\n", fmt::join(record.ids, " "));
  return 0;
}

int status(const JobArguments& arguments) {
  const KnownJob job = find_job(arguments);
  const JobReport report = report_of(*reach(job.record.address), job.record);
  const nlohmann::json run = status_of_run(job.run);
  if (arguments.json) {
    const ordered_json document = {{"job",
                                    {{"system", job.record.address.system},
                                     {"id", report.id},
                                     {"name", job.record.name},
                                     {"state", name_of(report.state)},
                                     {"native_state", report.native},
                                     {"reason", report.reason}}},
                                   {"run", run}};
    fmt::print("{}\n", io::json_text(document, 1));
    return 0;
  }
  fmt::print("job {}: {}{}\n", report.id, name_of(report.state),
             report.native.empty() ? "" : fmt::format(" ({}, {})", report.native, report.reason));
  if (run.is_object()) {
    fmt::print("run {}: {}, step {} of {}{}\n", job.run.string(), run.value("state", "unknown"),
               run.value("step", std::int64_t{0}), run.value("steps", std::int64_t{0}),
               run.value("message", "").empty() ? "" : "; " + run.value("message", ""));
  }
  return 0;
}

int cancel(const JobArguments& arguments) {
  const KnownJob job = find_job(arguments);
  const auto system = reach(job.record.address);
  // First the run's own word: whatever the batch system makes of the rest, it is not started again.
  std::error_code failure;
  if (fs::is_directory(job.run, failure)) {
    io::write_file_atomically(job.run / "STOP", "cancelled\n");
  }
  // The last one first, so that none starts because the one before it is gone.
  for (auto id = job.record.ids.rbegin(); id != job.record.ids.rend(); ++id) {
    system->cancel(*id, job.record.name);
  }
  fmt::print("cancelled: {}\n", fmt::join(job.record.ids, " "));
  return 0;
}

}  // namespace hadal::launch
