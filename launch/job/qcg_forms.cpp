// Forms of QCG, and of the PaaS orchestrator that hands jobs to it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/error.hpp"
#include "io/json.hpp"
#include "launch/job/base64.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/script.hpp"

namespace hadal::launch {

using nlohmann::ordered_json;

namespace {

// A folder of the job's own: the gateway may empty it, so it is never the run's.
std::string job_folder(const JobDescription& job) {
  return (job.run.parent_path() / "qcg" / job.name).string();
}

// Where the job's own words go: the gateway does not make the run folder.
std::string output_file(const JobDescription& job) {
  return job.is_self_contained() ? job_folder(job) + "/job.out"
                                 : (job.log() / "job-qcg.out").string();
}

// Gateways cut arguments at spaces.
void refuse_spaces(const JobDescription& job) {
  if (!job.is_self_contained() && job.script().string().find(' ') != std::string::npos) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("QCG cuts arguments at spaces, and {} has one: choose another "
                                "run.dir, or render with --self-contained",
                                job.script().string()));
  }
}

// How the job's script comes to run: from the run folder, or out of a variable.
std::vector<std::string> script_arguments(const JobDescription& job) {
  refuse_spaces(job);
  if (!job.is_self_contained()) return {job.script().string()};
  return {"-c", "base64${IFS}-d<<<$HADAL_JOB|bash"};
}

ordered_json script_environment(const JobDescription& job) {
  if (!job.is_self_contained()) return ordered_json::object();
  return {{"HADAL_JOB", base64(whole_script(job, {}))}};
}

std::vector<std::string> native_options(const JobDescription& job) {
  std::vector<std::string> options = slurm_options(job);
  if (!job.options.account.empty())
    options.insert(options.begin(), "--account=" + job.options.account);
  return options;
}

}  // namespace

std::string qcg_script(const JobDescription& job) {
  const JobOptions& o = job.options;
  std::vector<std::string> lines;
  const auto add = [&](const std::string& line) { lines.push_back("#QCG " + line); };
  add("note=hadal " + job.name);
  if (!o.queue.empty()) add("queue=" + o.queue);
  if (!o.account.empty()) add("grant=" + o.account);
  add(fmt::format("nodes={}:{}:{}", o.nodes, o.cpus_per_node(), o.ranks_per_node));
  if (o.memory_per_node > 0) add(fmt::format("memory={}", mebibytes(o.memory_per_node)));
  add(fmt::format("walltime=PT{}M", o.time / 60));
  const std::string output =
      job.is_self_contained() ? job.name + "-" : (job.log() / "job-").string();
  for (const char* stream : {"output", "error"}) {
    add(fmt::format("{}={}${{JOB_ID}}.out", stream, output));
  }
  if (!o.mail.empty()) add("notify=mailto:" + o.mail);
  JobDescription rest = job;
  rest.options.mail.clear();
  add(fmt::format("native={}", fmt::join(slurm_options(rest), " ")));
  return whole_script(job, lines);
}

ordered_json qcg_job(const JobDescription& job) {
  const JobOptions& o = job.options;
  ordered_json component = {{"total_nodes", o.nodes},
                            {"total_cores", o.nodes * o.cpus_per_node()},
                            {"cores_per_node", o.cpus_per_node()}};
  if (o.memory_per_node > 0) component["memory_per_node"] = mebibytes(o.memory_per_node);
  component["native"] = native_options(job);
  ordered_json resources = ordered_json::object();
  if (!o.queue.empty()) resources["queue"] = o.queue;
  resources["wall_clock"] = clock_text(o.time);
  resources["components"] = ordered_json::array({component});
  return {{"note", "hadal " + job.name},
          {"attributes", {{"hadal.run", job.name}}},
          {"execution",
           {{"executable", "/bin/bash"},
            {"args", script_arguments(job)},
            {"directory", job_folder(job)},
            {"std_outerr", output_file(job)},
            {"environment", script_environment(job)},
            {"directory_policy", {{"create", "OVERWRITE"}, {"remove", "NEVER"}}}}},
          {"resources", resources}};
}

std::string tosca_template(const JobDescription& job) {
  const JobOptions& o = job.options;
  // Options that the type has no property for. GPUs without a kind have one.
  std::vector<std::string> more = native_options(job);
  const bool plain_gpus = o.gpus_per_node > 0 && o.gpu_type.empty();
  if (plain_gpus) std::erase(more, "--gres=" + gres_text(o));
  ordered_json inputs, properties;
  // What whoever deploys it may change without hadal.
  const auto input = [&](const std::string& name, const char* type, const ordered_json& value,
                         const char* help) {
    inputs[name] = {{"type", type}, {"description", help}, {"default", value}};
    properties[name] = {{"get_input", name}};
  };
  input("total_nodes", "integer", o.nodes, "Nodes of the job");
  input("cores_per_node", "integer", o.cpus_per_node(), "Physical cores of a node");
  input("total_cores", "integer", o.nodes * o.cpus_per_node(), "Physical cores of the job");
  if (plain_gpus) input("gpus", "integer", o.gpus_per_node, "GPUs of a node");
  if (o.memory_per_node > 0) {
    input("memory_per_node", "integer", mebibytes(o.memory_per_node), "MiB of a node");
  }
  if (!o.queue.empty()) input("queue", "string", o.queue, "The site's queue");
  input("wall_clock", "string", clock_text(o.time), "How long a job may take, hh:mm:ss");
  properties["executable"] = "/bin/bash";
  properties["arguments"] = script_arguments(job);
  properties["directory"] = job_folder(job);
  properties["std_outerr"] = output_file(job);
  properties["note"] = "hadal " + job.name;
  properties["batch_system_options"] = more;
  const ordered_json environment = script_environment(job);
  if (!environment.empty()) properties["environment"] = environment;
  return yaml_text(
      {{"tosca_definitions_version", "tosca_simple_yaml_1_0"},
       {"imports",
        ordered_json::array({{{"indigo_custom_types",
                               "https://raw.githubusercontent.com/indigo-dc/tosca-types/master/"
                               "custom_types.yaml"}}})},
       {"description", "Training of " + job.name +
                           " with hadal. Deploy it with maxProvidersRetry 1: "
                           "the run goes on where its folder is, and nowhere else."},
       {"topology_template",
        {{"inputs", inputs},
         {"node_templates",
          {{"training", {{"type", "tosca.nodes.indigo.Qcg.Job"}, {"properties", properties}}}}},
         {"outputs",
          {{"run_folder",
            {{"description", "Where status.json, checkpoints and the model are"},
             {"value", job.run.string()}}}}}}}});
}

// A failed provider's deployment would be tried at the next one, which has neither the run folder
// nor its checkpoints. One that takes too long is failed: ten days by default (its 14,400 minutes),
// on top of which the lives of a job come here.
std::string orchestrator_deployment(const JobDescription& job) {
  constexpr std::int64_t kWaiting = 14'400;
  const std::int64_t lives =
      1 + (job.options.on_stop == OnStop::requeue ? job.options.max_restarts : 0);
  const std::int64_t minutes = kWaiting + lives * ((job.options.time + 59) / 60);
  return io::json_text(ordered_json{{"template", tosca_template(job)},
                                    {"parameters", ordered_json::object()},
                                    {"timeoutMins", minutes},
                                    {"providerTimeoutMins", minutes},
                                    {"maxProvidersRetry", 1},
                                    {"keepLastAttempt", true}},
                       1) +
         "\n";
}

std::string qcg_pilot_requests(const JobDescription& job) {
  const JobOptions& o = job.options;
  const bool one_rank = o.ranks() == 1;
  if (!one_rank && o.cpus_per_rank > 1) {
    throw io::Error(io::ErrorKind::config,
                    fmt::format("job.cpus_per_rank = {} with {} ranks cannot be said in the form "
                                "\"qcg-pilot\", which counts one core a rank: take more ranks of "
                                "one core, or one rank",
                                o.cpus_per_rank, o.ranks()));
  }
  ordered_json environment = ordered_json::object();
  for (const auto& [name, value] : o.environment) environment[name] = value;
  ordered_json words = ordered_json::array({"train"});
  for (const std::string& word : arguments(job)) words.push_back(word);
  // The manager counts cores as tasks, of which one rank with several would be none.
  if (one_rank) words.push_back("--single");
  ordered_json execution = {{"exec", o.hadal},
                            {"args", words},
                            {"env", environment},
                            {"wd", job.run.string()},
                            {"stdout", (job.log() / "job-pilot.out").string()},
                            {"stderr", (job.log() / "job-pilot.err").string()},
                            {"model", one_rank ? "threads" : "srunmpi"}};
  if (!o.modules.empty()) execution["modules"] = o.modules;
  ordered_json resources = {
      {"numCores", {{"exact", one_rank ? o.cpus_per_rank : o.ranks_per_node}}}};
  resources["numNodes"] = {{"exact", o.nodes}};
  const ordered_json submit = {
      {"request", "submit"},
      {"jobs", ordered_json::array(
                   {{{"name", job.name}, {"execution", execution}, {"resources", resources}}})}};
  const ordered_json finish = {{"request", "control"}, {"command", "finishAfterAllTasksDone"}};
  return io::json_text(ordered_json::array({submit, finish}), 1) + "\n";
}

}  // namespace hadal::launch
