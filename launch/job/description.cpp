#include "launch/job/description.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <regex>
#include <set>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/file_list.hpp"
#include "launch/schema.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;

// A node's memory, disk and the like in a message.
std::string gib(std::int64_t bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1 << 30));
}

// FNV-1a, 64 bits (draft-eastlake-fnv): tells folders apart, nothing more.
std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return hash;
}

// What every batch system takes as a name.
std::string job_name(const std::string& run, const fs::path& folder) {
  std::string name;
  for (const char c : run.substr(0, 40)) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' ? c : '_';
  }
  return fmt::format("{}-{:06x}", name, fnv1a(folder.string()) & 0xffffffU);
}

// Folders of the nodes' own: what is written there is gone, or unseen by the others.
bool is_of_one_node(const fs::path& path) {
  for (const fs::path root : {"/tmp", "/var/tmp", "/dev/shm", "/run"}) {
    if (std::mismatch(root.begin(), root.end(), path.begin(), path.end()).first == root.end()) {
      return true;
    }
  }
  return false;
}

// The folder that a file lies in, and the one that it really lies in, where links lead elsewhere.
void add_folder_of(const fs::path& path, std::set<std::string>& folders) {
  std::error_code failure;
  for (const fs::path& place : {path, fs::weakly_canonical(path, failure)}) {
    if (place.has_parent_path()) folders.insert(place.parent_path().string());
  }
}

std::vector<std::string> folders_to_bind(const LoadedConfig& config, const fs::path& config_file) {
  std::set<std::string> folders{config.run.run.dir.string()};
  add_folder_of(config_file, folders);
  for (const ResolvedKey& key : config.keys) {
    const KeySpec* row = find_key(key.key);
    if (row == nullptr || key.key == "run.dir" || key.key == "data.stage") continue;
    if (row->type.kind != ValueKind::path && row->type.kind != ValueKind::paths) continue;
    for (const std::string& path : key.value.is_array()
                                       ? key.value.get<std::vector<std::string>>()
                                       : std::vector<std::string>{key.value.get<std::string>()}) {
      // A pattern's folder, even where none of its files is here, and those of the files.
      add_folder_of(path.substr(0, path.find_first_of("*?[")) + "x", folders);
      for (const fs::path& file : io::list_files({path}).files) add_folder_of(file, folders);
    }
  }
  // What lies in another of them is seen already.
  std::vector<std::string> kept;
  for (const std::string& folder : folders) {
    const bool inside = std::any_of(kept.begin(), kept.end(), [&](const std::string& outer) {
      return folder.starts_with(outer + "/");
    });
    if (!inside) kept.push_back(folder);
  }
  return kept;
}

struct Contradictions {
  const JobDescription& job;
  const std::optional<JobNeeds>& needs;
  std::vector<std::string> faults;

  void find() {
    look_at_resources();
    look_at_texts();
    look_at_time();
    if (needs) look_at_place(*needs);
  }

  void say(std::string fault) { faults.push_back(std::move(fault)); }

  void look_at_resources() {
    const JobOptions& o = job.options;
    if (o.cpus_per_rank == 0) say("job.cpus_per_rank is missing: the physical cores of a rank");
    if (o.gpus_per_node > 0 && o.gpus_per_node != o.ranks_per_node) {
      say(
          fmt::format("job.gpus_per_node = {}, job.ranks_per_node = {}: a rank has one GPU; make "
                      "them equal, or leave gpus_per_node out",
                      o.gpus_per_node, o.ranks_per_node));
    }
    if (!o.gpu_type.empty() && o.gpus_per_node == 0) {
      say("job.gpu_type needs job.gpus_per_node");
    }
    if (o.container.runtime == "udocker" && !o.container.image.empty() && o.ranks() > 1) {
      say(fmt::format("job.container.runtime = \"udocker\" starts one rank, not {}; use apptainer",
                      o.ranks()));
    }
    if (o.container.image.empty() &&
        (job.has("job.container.bind") || job.has("job.container.runtime") ||
         job.has("job.container.options"))) {
      say("job.container.image is missing: the container that the other keys are about");
    }
  }

  void look_at_texts() {
    const JobOptions& o = job.options;
    for (const auto& [key, text] :
         std::initializer_list<std::pair<const char*, std::string>>{{"gpu_type", o.gpu_type},
                                                                    {"queue", o.queue},
                                                                    {"account", o.account},
                                                                    {"qos", o.qos},
                                                                    {"constraint", o.constraint},
                                                                    {"reservation", o.reservation},
                                                                    {"mail", o.mail}}) {
      // Words of the batch system's own, which its header lines could not hold otherwise.
      const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
        return std::isgraph(c) != 0 && c != '"' && c != '\'' && c != '\\' && c != '#';
      });
      if (!plain) say(fmt::format("job.{} = \"{}\" must be one plain word", key, text));
    }
    const auto is_line = [](const std::string& text) {
      return text.find_first_of(std::string("\n\r\0", 3)) == std::string::npos;
    };
    for (const std::string& option : o.native) {
      if (!is_line(option) || !option.starts_with("-")) {
        say(fmt::format("job.native: \"{}\" must be one option, beginning with -", option));
      }
    }
    for (const auto& [key, values] :
         std::initializer_list<std::pair<const char*, std::vector<std::string>>>{
             {"modules", o.modules},
             {"setup", o.setup},
             {"container.options", o.container.options}}) {
      if (!std::all_of(values.begin(), values.end(), is_line)) {
        say(fmt::format("job.{}: one line each", key));
      }
    }
    for (const std::string& path : {job.run.string(), job.config.string()}) {
      if (!is_line(path)) say("a path with the end of a line in it cannot stand in a job");
    }
    look_at_variables();
  }

  void look_at_variables() {
    static const std::regex name("[A-Za-z_][A-Za-z0-9_]*");
    static const std::regex secret("TOKEN|PASS|SECRET|KEY", std::regex::icase);
    std::vector<std::string> names = job.options.pass_env;
    for (const auto& [variable, value] : job.options.environment) {
      names.push_back(variable);
      if (std::regex_search(variable, secret)) {
        say(fmt::format(
            "job.environment.{} looks like a secret, and a job's script is no place for "
            "one; name it in job.pass_env",
            variable));
      }
    }
    for (const std::string& variable : names) {
      if (!std::regex_match(variable, name)) {
        say(fmt::format("\"{}\" is no name of a variable", variable));
      }
    }
  }

  void look_at_time() {
    const JobOptions& o = job.options;
    if (o.time == 0) {
      say("job.time is missing: how long one job may take, \"08:00:00\"");
    } else if (o.time < 60) {
      say("job.time must be at least a minute, which batch systems count in");
    } else if (o.on_stop != OnStop::exit && o.time < 2 * job.signal_lead) {
      say(
          fmt::format("job.time = {} s, of which the last {} s are for the last checkpoint "
                      "(job.signal_lead): make it at least {} s",
                      o.time, job.signal_lead, 2 * job.signal_lead));
    }
  }

  void look_at_place(const JobNeeds& found) {
    const JobOptions& o = job.options;
    if (is_of_one_node(job.run)) {
      say(
          fmt::format("run.dir = {} is of one node, not of the job; name a folder that all nodes "
                      "share",
                      job.run.string()));
    }
    if (found.micro_batches > 0 && o.ranks() > found.micro_batches) {
      say(
          fmt::format("job.nodes × job.ranks_per_node = {} ranks, but a step has {} micro-batches "
                      "(train.global_batch ÷ train.micro_batch); take at most {} ranks",
                      o.ranks(), found.micro_batches, found.micro_batches));
    }
    if (o.memory_per_node > 0 && found.memory_per_node > o.memory_per_node) {
      say(
          fmt::format("job.memory_per_node = {}, but {} ranks with one worker each need {} besides "
                      "the model's activations (\"hadal plan\" tells more)",
                      gib(o.memory_per_node), o.ranks_per_node, gib(found.memory_per_node)));
    }
    if (found.checkpoint_bytes == 0) return;
    fs::path folder = job.run;
    std::error_code failure;
    while (!fs::exists(folder, failure) && folder.has_relative_path())
      folder = folder.parent_path();
    const std::int64_t free = io::free_bytes(folder);
    const std::int64_t wanted = found.checkpoint_bytes * found.checkpoints;
    if (free >= 0 && free < wanted) {
      say(fmt::format("{} has {} free; {} checkpoints of {} do not fit (checkpoint.keep)",
                      folder.string(), gib(free), found.checkpoints, gib(found.checkpoint_bytes)));
    }
  }
};

// Storage that is shared and busy: what a checkpoint surely comes to (bytes a second).
constexpr std::int64_t kSlowStorage = 100'000'000;
constexpr std::int64_t kLeastLead = 120;

}  // namespace

bool JobDescription::has(const std::string& key) const {
  return std::find(given.begin(), given.end(), key) != given.end();
}

JobDescription describe_job(const LoadedConfig& config, const std::filesystem::path& config_file,
                            ConfigPlace place, const std::optional<JobNeeds>& needs) {
  JobDescription job{.options = config.job,
                     .run = config.run.run.dir,
                     .config = fs::absolute(config_file).lexically_normal(),
                     .settings = given_settings(config)};
  for (const ResolvedKey& key : config.keys) {
    if (key.key.starts_with("job.") && key.source != "default") job.given.push_back(key.key);
  }
  job.name = job_name(config.run.run.name, job.run);
  if (place == ConfigPlace::inside) {
    job.config = job.run / "job.toml";
    job.config_text = given_text(config);
    job.settings.clear();
  }
  const std::int64_t checkpoint_bytes = needs ? needs->checkpoint_bytes : 0;
  job.signal_lead = job.options.signal_lead > 0
                        ? job.options.signal_lead
                        : std::max(kLeastLead, 60 + checkpoint_bytes / kSlowStorage);
  if (!job.options.container.image.empty()) {
    job.binds = folders_to_bind(config, job.config);
    for (const std::string& bind : job.options.container.bind) job.binds.push_back(bind);
  }
  Contradictions contradictions{job, needs, {}};
  contradictions.find();
  if (!contradictions.faults.empty()) {
    throw io::Error(io::ErrorKind::config, fmt::format("no job can be made of this config:\n  {}",
                                                       fmt::join(contradictions.faults, "\n  ")));
  }
  return job;
}

}  // namespace hadal::launch
