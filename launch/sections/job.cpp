#include "launch/sections/table.hpp"

namespace hadal::launch {

using nlohmann::json;
using Kind = ValueKind;

namespace {

Staging as_staging(const json& value) {
  Staging staging;
  for (const json& pair : value) staging.emplace_back(pair[0], pair[1]);
  return staging;
}

void add_resources(Table& table) {
  table.job("job.nodes", integer(1, 100000), 1, "Of the job.",
            [](JobOptions& j, const json& v) { j.nodes = v; });
  table.job("job.ranks_per_node", integer(1, 4096), 1, "One a GPU, or one or more a CPU node.",
            [](JobOptions& j, const json& v) { j.ranks_per_node = v; });
  table.job("job.cpus_per_rank", integer(1, 4096), nullptr, "Physical cores.",
            [](JobOptions& j, const json& v) { j.cpus_per_rank = v; });
  table.job("job.gpus_per_node", integer(0, 64), 0, "As many as ranks_per_node, or none.",
            [](JobOptions& j, const json& v) { j.gpus_per_node = v; });
  table.job("job.gpu_type", plain(Kind::text), "", "As the site names it.",
            [](JobOptions& j, const json& v) { j.gpu_type = v; });
  table.job("job.memory_per_node", plain(Kind::size), nullptr, "Unset: the site's default.",
            [](JobOptions& j, const json& v) { j.memory_per_node = *parse_size(v); });
  table.job(
      "job.time", plain(Kind::duration), nullptr,
      "Of one job; what is not done by then goes on in the next one.",
      [](JobOptions& j, const json& v) { j.time = static_cast<std::int64_t>(*parse_duration(v)); });
}

void add_place(Table& table) {
  table.job("job.queue", plain(Kind::text), "", "Slurm's partition.",
            [](JobOptions& j, const json& v) { j.queue = v; });
  table.job("job.account", plain(Kind::text), "", "Or grant.",
            [](JobOptions& j, const json& v) { j.account = v; });
  table.job("job.qos", plain(Kind::text), "", "Quality of service.",
            [](JobOptions& j, const json& v) { j.qos = v; });
  table.job("job.constraint", plain(Kind::text), "", "Features that nodes must have.",
            [](JobOptions& j, const json& v) { j.constraint = v; });
  table.job("job.reservation", plain(Kind::text), "", "To run in.",
            [](JobOptions& j, const json& v) { j.reservation = v; });
  table.job("job.exclusive", plain(Kind::boolean), false, "Whole nodes.",
            [](JobOptions& j, const json& v) { j.exclusive = v; });
  table.job("job.mail", plain(Kind::text), "", "An address that hears of the end.",
            [](JobOptions& j, const json& v) { j.mail = v; });
  table.job("job.native", plain(Kind::texts), json::array(),
            "Options of the batch system that no key here stands for, as they are.",
            [](JobOptions& j, const json& v) { j.native = as_list(v); });
}

void add_start(Table& table) {
  table.job(
      "job.launcher", choice({"srun", "mpirun"}), "srun", "What starts the ranks.",
      [](JobOptions& j, const json& v) {
        j.launcher = pick<Launcher>(v, {{"srun", Launcher::srun}, {"mpirun", Launcher::mpirun}});
      });
  table.job("job.mpi", choice({"pmix", "pmi2", "none"}), "pmix",
            "What srun gives the ranks to find each other; srun --mpi=list tells.",
            [](JobOptions& j, const json& v) { j.mpi = v; });
  table.job("job.modules", plain(Kind::texts), json::array(), "Environment modules to load.",
            [](JobOptions& j, const json& v) { j.modules = as_list(v); });
  table.job("job.setup", plain(Kind::texts), json::array(), "Lines of shell before the start.",
            [](JobOptions& j, const json& v) { j.setup = as_list(v); });
  table.job("job.hadal", plain(Kind::text), "hadal", "The program, on the nodes.",
            [](JobOptions& j, const json& v) { j.hadal = v; });
  table.job("job.doctor", plain(Kind::boolean), false,
            "Look at the nodes before training, and end where they do not fit.",
            [](JobOptions& j, const json& v) { j.doctor = v; });
  table
      .add("job.environment.*", plain(Kind::text), nullptr, Bound::free,
           "A variable of the job; no secrets.", {})
      .apply = [](const Settings& s, const std::string& name, const json& v) {
    s.job.environment.emplace_back(name, v);
  };
  table.job("job.pass_env", plain(Kind::texts), json::array(),
            "Names of variables that the job takes from whoever submits it, secrets among them.",
            [](JobOptions& j, const json& v) { j.pass_env = as_list(v); });
  table.job("job.container.image", plain(Kind::text), "", "Where hadal is inside one.",
            [](JobOptions& j, const json& v) { j.container.image = v; });
  table.job("job.container.runtime", choice({"apptainer", "singularity", "udocker"}), "apptainer",
            "udocker for one rank only.",
            [](JobOptions& j, const json& v) { j.container.runtime = v; });
  table.job("job.container.bind", plain(Kind::texts), json::array(),
            "Folders it sees besides the run's, the config's and the data's.",
            [](JobOptions& j, const json& v) { j.container.bind = as_list(v); });
  table.job("job.container.options", plain(Kind::texts), json::array(),
            "Of its runtime, as they are.",
            [](JobOptions& j, const json& v) { j.container.options = as_list(v); });
}

void add_end(Table& table) {
  table.job("job.on_stop", choice({"requeue", "chain", "exit"}), "requeue",
            "When the time is over before the run: the same job again, a new one, or none.",
            [](JobOptions& j, const json& v) {
              j.on_stop = pick<OnStop>(
                  v,
                  {{"requeue", OnStop::requeue}, {"chain", OnStop::chain}, {"exit", OnStop::exit}});
            });
  table.job("job.max_restarts", integer(0, 1000), 20, "Of one submission.",
            [](JobOptions& j, const json& v) { j.max_restarts = v; });
  table.job("job.signal_lead", plain(Kind::duration), 0,
            "Before the end, for the last checkpoint; 0: from its size, at least 2m.",
            [](JobOptions& j, const json& v) {
              j.signal_lead = static_cast<std::int64_t>(*parse_duration(v));
            });
  table.job("job.stage_in", plain(Kind::pairs), json::array(),
            "Pairs of places, copied with rclone before the start.",
            [](JobOptions& j, const json& v) { j.stage_in = as_staging(v); });
  table.job("job.stage_out", plain(Kind::pairs), json::array(),
            "Pairs of places, copied with rclone when the job is not to go on.",
            [](JobOptions& j, const json& v) { j.stage_out = as_staging(v); });
}

}  // namespace

void add_job(Table& table) {
  add_resources(table);
  add_place(table);
  add_start(table);
  add_end(table);
}

}  // namespace hadal::launch
