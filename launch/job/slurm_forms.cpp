// Forms that Slurm reads itself, or that carry its script.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/json.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/script.hpp"

namespace hadal::launch {

using nlohmann::ordered_json;

namespace {

// A file name in a line of #SBATCH: Slurm reads quotes and backslashes as a shell does, and takes
// %j and the like for the job's numbers.
std::string sbatch_path(const std::string& path) {
  std::string text = "\"";
  for (const char c : path) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
    if (c == '%') text += '%';
  }
  return text;
}

ordered_json whole_number(std::int64_t number) {
  return {{"set", true}, {"infinite", false}, {"number", number}};
}

// What older releases tell in a plain number, and newer ones in a table.
ordered_json number(std::int64_t value, int version) {
  return version >= 39 ? whole_number(value) : ordered_json(value);
}

}  // namespace

std::string slurm_script(const JobDescription& job) {
  const JobOptions& o = job.options;
  std::vector<std::string> lines;
  const auto add = [&](const std::string& line) { lines.push_back("#SBATCH " + line); };
  add("--job-name=" + job.name);
  // Two jobs of one run would wait for each other's lease.
  add("--dependency=singleton");
  if (!o.queue.empty()) add("--partition=" + o.queue);
  if (!o.account.empty()) add("--account=" + o.account);
  add(fmt::format("--nodes={}", o.nodes));
  add(fmt::format("--ntasks={}", o.ranks()));
  add(fmt::format("--ntasks-per-node={}", o.ranks_per_node));
  add(fmt::format("--cpus-per-task={}", o.cpus_per_rank));
  if (o.memory_per_node > 0) add(fmt::format("--mem={}M", mebibytes(o.memory_per_node)));
  add("--time=" + clock_text(o.time));
  add(o.pass_env.empty() ? "--export=NONE"
                         : fmt::format("--export={}", fmt::join(o.pass_env, ",")));
  // Slurm does not make the folder; what brings its config writes there itself.
  add(job.is_self_contained()
          ? fmt::format("--output={}-%j.out", job.name)
          : "--output=" + sbatch_path((job.log() / "job-").string()) + "%j.out\"");
  for (const std::string& option : slurm_options(job)) add(option);
  return whole_script(job, lines);
}

ordered_json slurmrestd_job(const JobDescription& job) {
  const JobOptions& o = job.options;
  const int version = job.slurmrestd;
  const bool tables = version >= 39;
  ordered_json fields = {{"name", job.name}, {"dependency", "singleton"}};
  if (!o.queue.empty()) fields["partition"] = o.queue;
  if (!o.account.empty()) fields["account"] = o.account;
  if (!o.qos.empty()) fields["qos"] = o.qos;
  if (!o.constraint.empty()) fields["constraints"] = o.constraint;
  if (!o.reservation.empty()) fields["reservation"] = o.reservation;
  if (o.exclusive && version == 39) fields["shared"] = ordered_json::array({"none"});
  if (o.exclusive && version >= 40) fields["exclusive"] = ordered_json::array({"true"});
  if (o.exclusive && version <= 38) fields["exclusive"] = "exclusive";
  if (!o.mail.empty()) {
    fields["mail_user"] = o.mail;
    fields["mail_type"] =
        tables ? ordered_json::array({"END", "FAIL", "REQUEUE"}) : ordered_json("END,FAIL,REQUEUE");
  }
  fields["nodes"] = tables ? ordered_json(fmt::format("{}", o.nodes)) : ordered_json(o.nodes);
  fields["tasks"] = o.ranks();
  fields["tasks_per_node"] = o.ranks_per_node;
  fields["cpus_per_task"] = o.cpus_per_rank;
  if (o.memory_per_node > 0) {
    fields["memory_per_node"] = number(mebibytes(o.memory_per_node), version);
  }
  if (o.gpus_per_node > 0) {
    fields[tables ? "tres_per_node" : "gres"] = (tables ? "gres/" : "") + gres_text(o);
  }
  // Whole minutes: rounded up, the end would come after the one that was asked for.
  fields["time_limit"] = number(o.time / 60, version);
  if (tables) {
    fields["kill_warning_signal"] = "USR1";
    fields["kill_warning_delay"] = whole_number(job.signal_lead);
    fields["kill_warning_flags"] = ordered_json::array({"BATCH_JOB"});
    fields["open_mode"] = ordered_json::array({"APPEND"});
  } else {
    // Signals for the script alone cannot be said here. These reach the ranks, which is as good;
    // but under mpirun its daemons, which is not: the run stops by the allocation's end then.
    if (o.launcher == Launcher::srun) {
      fields["signal"] = fmt::format("USR1@{}", job.signal_lead);
    }
    fields["open_mode"] = "append";
    fields["cpu_binding_hint"] = "nomultithread";
  }
  fields["requeue"] = o.on_stop == OnStop::requeue;
  fields["current_working_directory"] = job.is_self_contained() ? "/" : job.run.string();
  fields["standard_output"] =
      job.is_self_contained() ? "/dev/null" : (job.log() / "job-%j.out").string();
  // It has to be there; the script makes its own.
  const std::string path = "/usr/local/bin:/usr/bin:/bin";
  fields["environment"] =
      tables ? ordered_json::array({"PATH=" + path}) : ordered_json{{"PATH", path}};
  // With its lines for sbatch: a chain gives it to that.
  const std::string script = slurm_script(job);
  if (version >= 41) {
    fields["script"] = script;
    return {{"job", fields}};
  }
  return {{"script", script}, {"job", fields}};
}

std::string firecrest_job(const JobDescription& job) {
  ordered_json fields = {{"name", job.name},
                         {"workingDirectory", job.is_self_contained() ? "/" : job.run.string()}};
  if (!job.options.account.empty()) fields["account"] = job.options.account;
  // It has no words for nodes, tasks or time: they stand in the script.
  fields["env"] = ordered_json::object();
  fields["script"] = slurm_script(job);
  return io::json_text(ordered_json{{"job", fields}}, 1) + "\n";
}

}  // namespace hadal::launch
