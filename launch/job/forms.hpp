#pragma once
// The forms that a job takes on its way to a batch system: one text a form, made of a
// JobDescription alone.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/job/description.hpp"

namespace hadal::launch {

struct Form {
  std::string name;
  std::string help;
  // Keys of [job] that it has no word for: a config that sets one is refused.
  std::vector<std::string> lacks;
  // What it can do about a stop in time; `requeue`, the default, becomes exit where it is not here.
  std::vector<OnStop> on_stop;
  std::string (*render)(const JobDescription& job);
  bool carries_script = true;  // else it starts the program itself, and the config has to be there
};

const std::vector<Form>& forms();

// Throws a usage error with the names there are.
const Form& find_form(const std::string& name);

// Throws a config error where the job sets what the form cannot express.
std::string render(const Form& form, JobDescription job);

// The forms themselves.
std::string slurm_script(const JobDescription& job);
std::string qcg_script(const JobDescription& job);
nlohmann::ordered_json qcg_job(const JobDescription& job);
std::string qcg_pilot_requests(const JobDescription& job);
std::string tosca_template(const JobDescription& job);
std::string orchestrator_deployment(const JobDescription& job);
std::string firecrest_job(const JobDescription& job);
std::string interlink_pod(const JobDescription& job);
std::string mpi_job(const JobDescription& job);

nlohmann::ordered_json slurmrestd_job(const JobDescription& job);
constexpr int kOldestSlurmrestd = 38;
constexpr int kNewestSlurmrestd = 42;

// Options of sbatch that forms made for several batch systems have no word of their own for.
std::vector<std::string> slurm_options(const JobDescription& job);

// Whole MiB, as batch systems count memory.
std::int64_t mebibytes(std::int64_t bytes);
// "08:00:00"; more than a day as hours.
std::string clock_text(std::int64_t seconds);
// gpu:a100:4
std::string gres_text(const JobOptions& options);

// A document as YAML, every text in quotes.
std::string yaml_text(const nlohmann::ordered_json& document);

}  // namespace hadal::launch
