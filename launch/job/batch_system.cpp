#include "launch/job/batch_system.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "io/error.hpp"

namespace hadal::launch {

bool is_alive(JobState state) {
  return state == JobState::queued || state == JobState::running || state == JobState::ending;
}

JobReport foremost(const std::vector<JobReport>& jobs) {
  for (const JobState state : {JobState::running, JobState::ending, JobState::queued}) {
    for (const JobReport& job : jobs) {
      if (job.state == state) return job;
    }
  }
  return {};
}

std::string name_of(JobState state) {
  switch (state) {
    case JobState::queued:
      return "queued";
    case JobState::running:
      return "running";
    case JobState::ending:
      return "ending";
    case JobState::done:
      return "done";
    case JobState::failed:
      return "failed";
    case JobState::cancelled:
      return "cancelled";
    case JobState::unknown:
      break;
  }
  return "unknown";
}

JobState state_of_slurm(const std::string& native) {
  static const std::map<std::string, JobState> states{
      {"PENDING", JobState::queued},       {"CONFIGURING", JobState::queued},
      {"REQUEUED", JobState::queued},      {"REQUEUE_FED", JobState::queued},
      {"REQUEUE_HOLD", JobState::queued},  {"SPECIAL_EXIT", JobState::queued},
      {"RESV_DEL_HOLD", JobState::queued}, {"POWER_UP_NODE", JobState::queued},
      {"RUNNING", JobState::running},      {"SUSPENDED", JobState::running},
      {"STOPPED", JobState::running},      {"SIGNALING", JobState::running},
      {"RESIZING", JobState::running},     {"COMPLETING", JobState::ending},
      {"STAGE_OUT", JobState::ending},     {"COMPLETED", JobState::done},
      {"CANCELLED", JobState::cancelled},  {"REVOKED", JobState::cancelled},
      {"FAILED", JobState::failed},        {"TIMEOUT", JobState::failed},
      {"NODE_FAIL", JobState::failed},     {"BOOT_FAIL", JobState::failed},
      {"OUT_OF_MEMORY", JobState::failed}, {"DEADLINE", JobState::failed},
      {"PREEMPTED", JobState::failed},     {"LAUNCH_FAILED", JobState::failed},
      {"RECONFIG_FAIL", JobState::failed}};
  const auto found = states.find(native);
  return found == states.end() ? JobState::unknown : found->second;
}

JobState state_of_qcg(const std::string& native) {
  static const std::map<std::string, JobState> states{
      {"SUBMITTED", JobState::queued},  {"PENDING", JobState::queued},
      {"EXECUTING", JobState::running}, {"COMPLETING", JobState::ending},
      {"FINISHED", JobState::done},     {"FAILED", JobState::failed},
      {"CANCELED", JobState::cancelled}};
  const auto found = states.find(native);
  return found == states.end() ? JobState::unknown : found->second;
}

std::vector<std::string> batch_system_names() { return {"slurm", "slurmrestd", "qcg"}; }

std::unique_ptr<BatchSystem> reach(const BatchSystemAddress& address) {
  const bool by_network = address.system != "slurm";
  if (by_network && address.endpoint.empty()) {
    throw io::Error(
        io::ErrorKind::usage,
        fmt::format("{} needs --endpoint, for example {}", address.system,
                    address.system == "qcg" ? "https://host/api" : "unix:/run/slurmrestd.socket"));
  }
  if (!by_network && (!address.endpoint.empty() || !address.token.empty())) {
    throw io::Error(io::ErrorKind::usage,
                    "--endpoint and --token-file belong to slurmrestd and qcg (--to); slurm is "
                    "reached by its commands");
  }
  if (address.system == "slurmrestd") return slurm_rest(address);
  if (address.system == "qcg") return qcg_gateway(address);
  return slurm_commands();
}

}  // namespace hadal::launch
