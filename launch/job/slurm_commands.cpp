// Slurm by its commands: sbatch, squeue, scontrol, scancel.
#include <fmt/format.h>

#include <regex>
#include <sstream>

#include "io/error.hpp"
#include "launch/job/batch_system.hpp"
#include "launch/job/command.hpp"
#include "launch/job/forms.hpp"

namespace hadal::launch {
namespace {

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \n\t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \n\t") - first + 1);
}

std::string run(const std::vector<std::string>& words) {
  const CommandResult result = run_command(words);
  if (result.code == 0) return trimmed(result.out);
  throw io::Error(io::ErrorKind::launch, fmt::format("{} ended with {}: {}", words.front(),
                                                     result.code, trimmed(result.err)));
}

class SlurmCommands : public BatchSystem {
 public:
  std::string preview(const JobDescription& job) const override {
    return render(find_form("slurm"), job);
  }

  std::string submit(const JobDescription& job) override {
    // "ID" or "ID;cluster"
    const std::string said = run({"sbatch", "--parsable", job.script().string()});
    const std::string id = said.substr(0, said.find(';'));
    if (id.empty() || id.find_first_not_of("0123456789") != std::string::npos) {
      throw io::Error(io::ErrorKind::launch,
                      fmt::format("sbatch said \"{}\" instead of a job's number", said));
    }
    return id;
  }

  JobReport report(const std::string& id, const std::string& name) override {
    const JobReport alive = name.empty() ? JobReport{} : foremost(known_as(name));
    return is_alive(alive.state) ? alive : by_number(id);
  }

  void cancel(const std::string& id, const std::string& name) override {
    // The name catches a job that goes on under another number, and several of one run.
    if (!name.empty()) run({"scancel", "--quiet", "--me", "--name", name});
    run({"scancel", "--quiet", id});
  }

 private:
  // What lives under the name is the run's, whatever number it has.
  static std::vector<JobReport> known_as(const std::string& name) {
    std::istringstream lines(
        run({"squeue", "--noheader", "--me", "--name", name, "--format", "%i|%T|%r"}));
    std::vector<JobReport> jobs;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream parts(line);
      JobReport one;
      std::getline(parts, one.id, '|');
      std::getline(parts, one.native, '|');
      std::getline(parts, one.reason);
      one.state = state_of_slurm(one.native);
      jobs.push_back(one);
    }
    return jobs;
  }

  static JobReport by_number(const std::string& id) {
    JobReport report{.id = id};
    const CommandResult shown = run_command({"scontrol", "--oneliner", "show", "job", id});
    std::smatch match;
    if (std::regex_search(shown.out, match, std::regex("JobState=([A-Z_]+) Reason=([^ ]+)"))) {
      report.native = match[1];
      report.reason = match[2];
    } else {
      // The controller forgets (MinJobAge); accounting, where a site has it, does not.
      const CommandResult kept = run_command(
          {"sacct", "--noheader", "--allocations", "--parsable2", "--format=State", "--jobs", id});
      const std::string state = trimmed(kept.out);
      report.native = state.substr(0, state.find_first_of(" |\n"));
    }
    report.state = state_of_slurm(report.native);
    return report;
  }
};

}  // namespace

std::unique_ptr<BatchSystem> slurm_commands() { return std::make_unique<SlurmCommands>(); }

}  // namespace hadal::launch
