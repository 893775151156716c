// Forms that reach a site through Kubernetes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/error.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/script.hpp"

namespace hadal::launch {

using nlohmann::ordered_json;

namespace {

void need_image(const JobDescription& job, const char* form) {
  if (!job.options.container.image.empty()) return;
  throw io::Error(
      io::ErrorKind::config,
      fmt::format("job.container.image is missing: the form \"{}\" starts nothing else", form));
}

// Names of Kubernetes hold small letters, digits and dashes (RFC 1123).
std::string object_name(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const bool small = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const bool large = c >= 'A' && c <= 'Z';
    text += large ? static_cast<char>(c - 'A' + 'a') : (small ? c : '-');
  }
  text.erase(0, text.find_first_not_of('-'));
  return text;
}

ordered_json variables(const JobOptions& options) {
  ordered_json list = ordered_json::array();
  for (const auto& [name, value] : options.environment) {
    list.push_back({{"name", name}, {"value", value}});
  }
  return list;
}

ordered_json limits(const JobOptions& o, int cpus) {
  ordered_json resources = {{"cpu", fmt::format("{}", cpus)}};
  if (o.memory_per_node > 0) {
    resources["memory"] = fmt::format("{}Mi", mebibytes(o.memory_per_node));
  }
  if (o.gpus_per_node > 0) resources["nvidia.com/gpu"] = fmt::format("{}", o.gpus_per_node);
  return {{"limits", resources}};
}

std::vector<std::string> train_words(const JobDescription& job) {
  std::vector<std::string> words{job.options.hadal, "train"};
  for (const std::string& word : arguments(job)) words.push_back(word);
  return words;
}

// A bind "claim:/place" without a slash before the colon is a claim, everything else a folder that
// all nodes have.
void add_volume(const std::string& bind, ordered_json& volumes, ordered_json& mounts) {
  const std::size_t colon = bind.find(':');
  const std::string from = bind.substr(0, colon);
  const std::string to = colon == std::string::npos ? from : bind.substr(colon + 1);
  const std::string name = fmt::format("place-{}", volumes.size());
  if (from.starts_with('/')) {
    volumes.push_back({{"name", name}, {"hostPath", {{"path", from}}}});
  } else {
    volumes.push_back({{"name", name}, {"persistentVolumeClaim", {{"claimName", from}}}});
  }
  mounts.push_back({{"name", name}, {"mountPath", to}});
}

}  // namespace

std::string interlink_pod(const JobDescription& job) {
  need_image(job, "interlink");
  const JobOptions& o = job.options;
  std::vector<std::string> flags{"--job-name=" + job.name, fmt::format("--nodes={}", o.nodes),
                                 fmt::format("--ntasks={}", o.ranks()),
                                 fmt::format("--ntasks-per-node={}", o.ranks_per_node),
                                 "--time=" + clock_text(o.time)};
  if (!o.queue.empty()) flags.push_back("--partition=" + o.queue);
  if (!o.account.empty()) flags.push_back("--account=" + o.account);
  for (const std::string& option : slurm_options(job)) {
    // Its script does not hand the signal on: the run stops by the allocation's end.
    if (!option.starts_with("--signal=")) flags.push_back(option);
  }
  std::vector<std::string> first;
  if (!o.modules.empty()) first.push_back(fmt::format("module load {}", fmt::join(o.modules, " ")));
  first.insert(first.end(), o.setup.begin(), o.setup.end());
  ordered_json annotations = {{"slurm-job.vk.io/flags", fmt::format("{}", fmt::join(flags, " "))}};
  if (o.ranks() > 1) {
    annotations["slurm-job.vk.io/mpi-flags"] =
        fmt::format("--map-by ppr:{}:node --bind-to none", o.ranks_per_node);
  }
  if (!first.empty()) {
    annotations["slurm-job.vk.io/pre-exec"] = fmt::format("{}", fmt::join(first, "\n"));
  }
  std::vector<std::string> mounts;
  for (const std::string& bind : job.binds) mounts.push_back("--bind " + bind);
  annotations["slurm-job.vk.io/singularity-mounts"] = fmt::format("{}", fmt::join(mounts, " "));
  if (!o.container.options.empty()) {
    annotations["slurm-job.vk.io/singularity-options"] =
        fmt::format("{}", fmt::join(o.container.options, " "));
  }
  ordered_json container = {{"name", "hadal"},
                            {"image", o.container.image},
                            {"command", train_words(job)},
                            {"env", variables(o)},
                            {"resources", limits(o, o.cpus_per_rank)}};
  return yaml_text(
      {{"apiVersion", "v1"},
       {"kind", "Pod"},
       {"metadata", {{"name", object_name(job.name)}, {"annotations", annotations}}},
       {"spec",
        {{"restartPolicy", "Never"},
         {"tolerations", ordered_json::array({{{"key", "virtual-node.interlink/no-schedule"},
                                               {"operator", "Exists"}}})},
         {"containers", ordered_json::array({container})}}}});
}

std::string mpi_job(const JobDescription& job) {
  need_image(job, "mpijob");
  const JobOptions& o = job.options;
  ordered_json volumes = ordered_json::array(), mounts = ordered_json::array();
  for (const std::string& bind : job.binds) add_volume(bind, volumes, mounts);
  std::vector<std::string> command = launcher_words([&] {
    JobOptions mpirun = o;
    mpirun.launcher = Launcher::mpirun;
    return mpirun;
  }());
  command.insert(command.begin() + 1, "--allow-run-as-root");
  for (const std::string& word : train_words(job)) command.push_back(word);
  // Nobody tells the ranks when the job's time is over.
  command.insert(command.end(),
                 {"--set", fmt::format("run.deadline=\"{}s\"", o.time - job.signal_lead)});
  const auto pod = [&](ordered_json container) -> ordered_json {
    container["volumeMounts"] = mounts;
    return {{"spec",
             {{"containers", ordered_json::array({std::move(container)})}, {"volumes", volumes}}}};
  };
  const ordered_json launcher = {{"name", "launcher"},
                                 {"image", o.container.image},
                                 {"command", command},
                                 {"env", variables(o)}};
  const ordered_json worker = {{"name", "worker"},
                               {"image", o.container.image},
                               {"env", variables(o)},
                               {"resources", limits(o, o.cpus_per_node())}};
  return yaml_text(
      {{"apiVersion", "kubeflow.org/v2beta1"},
       {"kind", "MPIJob"},
       {"metadata", {{"name", object_name(job.name)}}},
       {"spec",
        {{"slotsPerWorker", o.ranks_per_node},
         {"runPolicy",
          {{"cleanPodPolicy", "Running"}, {"backoffLimit", 0}, {"activeDeadlineSeconds", o.time}}},
         {"mpiReplicaSpecs",
          {{"Launcher", {{"replicas", 1}, {"restartPolicy", "Never"}, {"template", pod(launcher)}}},
           {"Worker",
            {{"replicas", o.nodes}, {"restartPolicy", "Never"}, {"template", pod(worker)}}}}}}}});
}

}  // namespace hadal::launch
