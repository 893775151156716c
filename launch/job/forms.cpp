#include "launch/job/forms.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::launch {
namespace {

using nlohmann::ordered_json;

std::string qcg_job_text(const JobDescription& job) {
  return io::json_text(qcg_job(job), 1) + "\n";
}

std::string slurmrestd_text(const JobDescription& job) {
  return io::json_text(slurmrestd_job(job), 1) + "\n";
}

void append_yaml(const ordered_json& value, std::size_t indent, std::string& text);

// What stands behind "key:" or "-".
void append_value(const ordered_json& value, std::size_t indent, std::string& text) {
  const bool nested = (value.is_object() || value.is_array()) && !value.empty();
  if (!nested) {
    // JSON's texts and empty lists are YAML's.
    text.append(" ").append(io::json_text(value)).append("\n");
    return;
  }
  text += "\n";
  append_yaml(value, indent, text);
}

void append_yaml(const ordered_json& value, std::size_t indent, std::string& text) {
  const std::string margin(indent, ' ');
  if (value.is_array()) {
    for (const ordered_json& item : value) {
      text += margin + "-";
      append_value(item, indent + 2, text);
    }
    return;
  }
  for (const auto& [name, member] : value.items()) {
    const bool plain = name.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/") ==
                       std::string::npos;
    text += margin + (plain ? name : ordered_json(name).dump()) + ":";
    append_value(member, indent + 2, text);
  }
}

}  // namespace

const std::vector<Form>& forms() {
  using S = OnStop;
  static const std::vector<Form> all{
      {"slurm", "a script for sbatch", {}, {S::requeue, S::chain, S::exit}, slurm_script},
      {"qcg",
       "a script with #QCG lines, for qcg-sub",
       {"job.pass_env"},
       {S::requeue, S::exit},
       qcg_script},
      {"qcg-rest",
       "a job of QCG's REST interface (JSON)",
       {"job.pass_env"},
       {S::requeue, S::exit},
       qcg_job_text},
      {"qcg-pilot",
       "requests of QCG-PilotJob (JSON), for an allocation that is there already",
       {"job.gpus_per_node", "job.gpu_type",    "job.memory_per_node",
        "job.queue",         "job.account",     "job.qos",
        "job.constraint",    "job.reservation", "job.exclusive",
        "job.mail",          "job.native",      "job.pass_env",
        "job.setup",         "job.signal_lead", "job.launcher",
        "job.mpi",           "job.doctor",      "job.container.image",
        "job.stage_in",      "job.stage_out"},
       {S::exit},
       qcg_pilot_requests,
       /*carries_script=*/false},
      {"tosca",
       "a topology with a QCG job for the INDIGO PaaS orchestrator (YAML)",
       {"job.pass_env"},
       {S::requeue, S::exit},
       tosca_template},
      {"orchestrator",
       "that topology in a deployment that stays with one provider, for the orchestrator's "
       "REST interface (JSON)",
       {"job.pass_env"},
       {S::requeue, S::exit},
       orchestrator_deployment},
      {"slurmrestd",
       "a job of Slurm's REST interface (JSON; --api tells its version)",
       {"job.pass_env", "job.native"},
       {S::requeue, S::chain, S::exit},
       slurmrestd_text},
      {"firecrest",
       "a job of FirecREST's second interface (JSON)",
       {"job.pass_env"},
       {S::requeue, S::chain, S::exit},
       firecrest_job},
      {"interlink",
       "a pod that interLink's Slurm plugin runs (YAML)",
       {"job.launcher", "job.mpi", "job.doctor", "job.pass_env", "job.stage_in", "job.stage_out",
        "job.container.runtime"},
       {S::exit},
       interlink_pod,
       /*carries_script=*/false},
      // Kubernetes knows nothing of a batch system's places, nor of what starts the ranks.
      {"mpijob",
       "an MPIJob of Kubeflow's MPI operator (YAML)",
       {"job.queue", "job.account", "job.qos", "job.constraint", "job.reservation", "job.mail",
        "job.launcher", "job.mpi", "job.exclusive", "job.container.runtime",
        "job.container.options", "job.doctor", "job.pass_env", "job.stage_in", "job.stage_out",
        "job.native", "job.modules", "job.setup"},
       {S::exit},
       mpi_job,
       /*carries_script=*/false}};
  return all;
}

const Form& find_form(const std::string& name) {
  std::vector<std::string> names;
  for (const Form& form : forms()) {
    if (form.name == name) return form;
    names.push_back(form.name);
  }
  throw io::Error(io::ErrorKind::usage, fmt::format("\"{}\" is no form of a job; there are {}",
                                                    name, fmt::join(names, ", ")));
}

std::string render(const Form& form, JobDescription job) {
  std::vector<std::string> faults;
  for (const std::string& key : form.lacks) {
    if (job.has(key)) {
      faults.push_back(fmt::format("{} cannot be said in the form \"{}\"", key, form.name));
    }
  }
  if (job.is_self_contained() && !form.carries_script) {
    faults.push_back(fmt::format(
        "--self-contained: the form \"{}\" carries no script, and so no config", form.name));
  }
  const auto& can = form.on_stop;
  if (std::find(can.begin(), can.end(), job.options.on_stop) == can.end()) {
    if (job.has("job.on_stop")) {
      faults.push_back(fmt::format("job.on_stop = \"{}\" cannot be said in the form \"{}\"",
                                   name_of(job.options.on_stop), form.name));
    }
    job.options.on_stop = OnStop::exit;
  }
  if (!faults.empty()) {
    throw io::Error(io::ErrorKind::config, fmt::format("{}; leave it out, or take another form",
                                                       fmt::join(faults, "\n  ")));
  }
  return form.render(job);
}

std::vector<std::string> slurm_options(const JobDescription& job) {
  const JobOptions& o = job.options;
  std::vector<std::string> options;
  if (o.gpus_per_node > 0) options.push_back("--gres=" + gres_text(o));
  if (!o.qos.empty()) options.push_back("--qos=" + o.qos);
  if (!o.constraint.empty()) options.push_back("--constraint=" + o.constraint);
  if (!o.reservation.empty()) options.push_back("--reservation=" + o.reservation);
  if (o.exclusive) options.push_back("--exclusive");
  if (!o.mail.empty()) {
    options.insert(options.end(), {"--mail-user=" + o.mail, "--mail-type=END,FAIL,REQUEUE"});
  }
  options.push_back(fmt::format("--signal=B:USR1@{}", job.signal_lead));
  options.push_back(o.on_stop == OnStop::requeue ? "--requeue" : "--no-requeue");
  options.push_back("--open-mode=append");
  options.push_back("--hint=nomultithread");
  options.insert(options.end(), o.native.begin(), o.native.end());
  return options;
}

std::int64_t mebibytes(std::int64_t bytes) { return bytes >> 20; }

std::string clock_text(std::int64_t seconds) {
  return fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

std::string gres_text(const JobOptions& options) {
  return options.gpu_type.empty()
             ? fmt::format("gpu:{}", options.gpus_per_node)
             : fmt::format("gpu:{}:{}", options.gpu_type, options.gpus_per_node);
}

std::string yaml_text(const ordered_json& document) {
  std::string text;
  append_yaml(document, 0, text);
  return text;
}

}  // namespace hadal::launch
