#include "launch/job/script.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "launch/job/shell.hpp"

namespace hadal::launch {
namespace {

// Ends a quoted text in the script; a config does not hold this line (toml_text has no such key).
constexpr const char* kEndOfConfig = "END_OF_CONFIG";

std::string assign(const std::string& name, const std::string& value) {
  return fmt::format("{}={}\n", name, shell_word(value));
}

// What this job is: the one part of the body that differs from job to job.
std::string values(const JobDescription& job) {
  std::string text = assign("run", job.run.string());
  text += fmt::format("on_stop={} max_restarts={} seconds={}\n", name_of(job.options.on_stop),
                      job.options.max_restarts, job.options.time);
  return text;
}

constexpr const char* kSignals = R"sh(
say() { printf 'hadal: %s\n' "$*"; }

# Both signals make the ranks save and stop. TERM would end srun, and the ranks with it, at once.
usr1=0 term=0 launcher=
trap 'usr1=1; [ -z "$launcher" ] || kill -USR1 "$launcher" 2>/dev/null' USR1
trap 'term=1; [ -z "$launcher" ] || kill -USR2 "$launcher" 2>/dev/null' TERM INT
)sh";

constexpr const char* kEnvironment = R"sh(
# The job's own environment, whatever submitted it. Counts stand on the launcher's line.
export SLURM_EXPORT_ENV=ALL LC_ALL=C.UTF-8
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_PROC_BIND=false
unset PYTHONPATH PYTHONHOME LD_PRELOAD DISPLAY SLURM_TIME_FORMAT
unset SLURM_NTASKS SLURM_NPROCS SLURM_NTASKS_PER_NODE SLURM_CPUS_PER_TASK SLURM_TRES_PER_TASK
)sh";

constexpr const char* kModules = R"sh(if ! type module >/dev/null 2>&1 && [ -r /etc/profile ]; then
  # shellcheck source=/dev/null
  . /etc/profile
fi
if ! module purge || ! module load {}; then
  say 'a module cannot be loaded' >&2
  exit 69
fi
)sh";

std::string environment(const JobDescription& job) {
  const JobOptions& options = job.options;
  std::string text = kEnvironment;
  text += fmt::format("export SRUN_CPUS_PER_TASK={}\n", options.cpus_per_rank);
  for (const auto& [name, value] : options.environment) {
    text += fmt::format("export {}={}\n", name, shell_word(value));
  }
  if (!options.modules.empty()) {
    text += fmt::format(kModules, shell_words(options.modules));
  }
  for (const std::string& line : options.setup) text += line + "\n";
  return text;
}

constexpr const char* kAttempt = R"sh(
set -u
ulimit -c 0
restarts=$(( ${SLURM_RESTART_COUNT:-0} + ${HADAL_CHAIN:-0} ))
export HADAL_ATTEMPT="${SLURM_JOB_ID:-local-$$}.$restarts"
ask_slurm() { squeue -h -j "${SLURM_JOB_ID:-0}" -o "$1" 2>/dev/null; }
end=$(ask_slurm %e)
[ -z "$end" ] || end=$(date -d "$end" +%s 2>/dev/null)
export HADAL_END_TIME="${end:-$(( $(date +%s) + seconds ))}"
mkdir -p "$run/log" && cd "$run" || exit 74
word="log/exit-$HADAL_ATTEMPT"
say "job $HADAL_ATTEMPT on ${SLURM_JOB_NODELIST:-$(uname -n)}, ends $(date -d "@$HADAL_END_TIME")"
# A STOP from before this job was submitted was another start's. Slurm tells that time in whole seconds, cut off.
if [ "$restarts" -eq 0 ] && [ -e STOP ]; then
  submitted=$(ask_slurm %V)
  [ -z "$submitted" ] || find STOP ! -newermt "@$(( $(date -d "$submitted" +%s) + 1 ))" -delete
fi
)sh";

std::string bring(const JobDescription& job) {
  const JobOptions& options = job.options;
  std::string text;
  if (options.on_stop == OnStop::chain) {
    text += "[ \"$0\" -ef log/job.sh ] || cp -- \"$0\" log/job.sh || exit 74\n";
  }
  if (job.is_self_contained()) {
    text += "exec >>\"log/job-${SLURM_JOB_ID:-local}.out\" 2>&1\n";
    text += fmt::format("cat >job.toml.tmp <<'{}' && mv job.toml.tmp job.toml || exit 74\n{}{}\n",
                        kEndOfConfig, job.config_text, kEndOfConfig);
  }
  if (!options.stage_in.empty() || !options.stage_out.empty()) {
    text += "command -v rclone >/dev/null || { say 'rclone is not here' >&2; exit 69; }\n";
  }
  for (const auto& [from, to] : options.stage_in) {
    text += fmt::format("rclone copy {} || {{ say 'staging in failed' >&2; exit 74; }}\n",
                        shell_words({from, to}));
  }
  return text;
}

std::vector<std::string> program_words(const JobDescription& job) {
  const ContainerOptions& container = job.options.container;
  if (container.image.empty()) return {job.options.hadal};
  std::vector<std::string> words{container.runtime};
  if (container.runtime == "udocker") {
    words.insert(words.end(), {"run", "--hostenv", "--hostauth"});
    for (const std::string& bind : job.binds) words.insert(words.end(), {"-v", bind});
    words.insert(words.end(), {"--workdir=" + job.run.string()});
  } else {
    // No --cleanenv: the ranks find each other by variables of the launcher.
    words.insert(words.end(), {"exec", "--no-home"});
    if (job.options.gpus_per_node > 0) words.push_back("--nv");
    for (const std::string& bind : job.binds) words.insert(words.end(), {"--bind", bind});
    words.insert(words.end(), {"--pwd", job.run.string()});
  }
  words.insert(words.end(), container.options.begin(), container.options.end());
  words.insert(words.end(), {container.image, job.options.hadal});
  return words;
}

constexpr const char* kTrain = R"sh(
if [ $usr1$term = 00 ]; then
  "${launch[@]}" "${program[@]}" train "${arguments[@]}" </dev/null &
  launcher=$!
  [ $usr1 = 0 ] || kill -USR1 "$launcher" 2>/dev/null
  [ $term = 0 ] || kill -USR2 "$launcher" 2>/dev/null
  (
    # A launcher may outlive its ranks, or wait for a node that is gone.
    while kill -0 "$launcher" 2>/dev/null; do
      if [ -s "$word" ]; then sleep 60; kill -KILL "$launcher" 2>/dev/null; fi
      sleep 5
    done
  ) >/dev/null 2>&1 &
  guard=$!
  while :; do
    wait "$launcher"
    rc=$?
    kill -0 "$launcher" 2>/dev/null || break # a signal ends a wait early
  done
  launcher=
  kill "$guard" 2>/dev/null
else
  rc=75
fi

# The run's own word beats the launcher's code.
code=$rc reason=unknown step=0 stalls=0
if read -r code reason step stalls 2>/dev/null <"$word"; then
  [ "$code" -eq "$rc" ] || say "the launcher said $rc, the run says $code ($reason, step $step)"
elif [ $usr1$term != 00 ]; then
  code=75 reason=signal
  say 'stopped by a signal before the run could say so; it goes on from its last checkpoint'
elif [ "$rc" -eq 0 ]; then
  code=70
  say 'the launcher ended well, but the run left no word'
fi

again=no
if [ "$code" -eq 75 ] && [ "$on_stop" != exit ] && [ ! -e STOP ]; then
  case $reason in time | usr1 | signal) again=yes ;; esac
  # After TERM: a job that is being cancelled is no longer RUNNING, one that makes place still is.
  if [ $term = 1 ] || [ "$reason" = term ]; then
    again=no
    [ "$(ask_slurm %T)" != RUNNING ] || again=yes
  fi
fi
if [ $again = yes ] && [ "$stalls" -ge 3 ]; then
  again=no
  say "$stalls attempts without one new step: not started again" >&2
elif [ $again = yes ] && [ "$restarts" -ge "$max_restarts" ]; then
  again=no
  say "$restarts restarts are used up; submit the same job to go on" >&2
fi
)sh";

std::string go_on(const JobDescription& job) {
  if (job.options.on_stop == OnStop::exit) return "";
  if (job.options.on_stop == OnStop::chain) {
    std::string names = "HADAL_CHAIN=$(( restarts + 1 ))";
    for (const std::string& name : job.options.pass_env) names += "," + name;
    return fmt::format(R"sh(if [ $again = yes ]; then
  sbatch --export="{}" --dependency="afterany:$SLURM_JOB_ID" log/job.sh && exit "$code"
  say 'a job to go on with cannot be submitted from here; set job.on_stop = "exit" and submit several' >&2
fi
)sh",
                       names);
  }
  return R"sh(if [ $again = yes ]; then
  say "step $step, to be gone on with: queued again"
  # Slurm ends this shell then. It would wait for one that does not heed TERM (KillWait), with the nodes still taken.
  trap 'exit "$code"' TERM
  if scontrol requeue "$SLURM_JOB_ID"; then
    for _ in {1..300}; do sleep 1; done
  fi
  say 'the job cannot be queued again here (JobRequeue=0?); set job.on_stop = "chain"' >&2
fi
)sh";
}

std::string carry_out(const JobOptions& options) {
  std::string text;
  for (const auto& [from, to] : options.stage_out) {
    text += fmt::format(
        "rclone copy {} || {{ say 'staging out failed' >&2; [ \"$code\" -ne 0 ] || code=74; }}\n",
        shell_words({from, to}));
  }
  return text + "exit \"$code\"\n";
}

std::string ranks_lines(const JobDescription& job) {
  std::string text = fmt::format("\nlaunch=({})\nprogram=({})\narguments=({})\n",
                                 shell_words(launcher_words(job.options)),
                                 shell_words(program_words(job)), shell_words(arguments(job)));
  if (job.options.launcher == Launcher::mpirun) {
    text += "[ \"$(id -u)\" -ne 0 ] || launch+=(--allow-run-as-root)\n";
  }
  if (job.options.doctor) {
    text += "\"${launch[@]}\" \"${program[@]}\" doctor \"${arguments[@]}\" </dev/null || exit\n";
  }
  return text;
}

}  // namespace

std::vector<std::string> arguments(const JobDescription& job) {
  std::vector<std::string> words{job.config.string()};
  for (const std::string& setting : job.settings) words.insert(words.end(), {"--set", setting});
  return words;
}

std::vector<std::string> launcher_words(const JobOptions& options) {
  if (options.launcher == Launcher::mpirun) {
    // Ranks of a host share its cores out by themselves, within what the job has of them.
    return {"mpirun",
            "-np",
            fmt::format("{}", options.ranks()),
            "--map-by",
            fmt::format("ppr:{}:node", options.ranks_per_node),
            "--bind-to",
            "none"};
  }
  std::vector<std::string> words{"srun",
                                 fmt::format("--nodes={}", options.nodes),
                                 fmt::format("--ntasks={}", options.ranks()),
                                 fmt::format("--ntasks-per-node={}", options.ranks_per_node),
                                 fmt::format("--cpus-per-task={}", options.cpus_per_rank),
                                 "--mpi=" + options.mpi,
                                 "--export=ALL",
                                 "--kill-on-bad-exit=1",
                                 "--wait=60",
                                 "--cpu-bind=cores",
                                 "--distribution=block:block"};
  // A task that sees its own GPU alone cannot read its neighbours' memory.
  if (options.gpus_per_node > 0) words.push_back("--gpu-bind=none");
  return words;
}

std::string script_body(const JobDescription& job) {
  return values(job) + kSignals + environment(job) + kAttempt + bring(job) + ranks_lines(job) +
         kTrain + go_on(job) + carry_out(job.options);
}

std::string whole_script(const JobDescription& job, const std::vector<std::string>& header) {
  return fmt::format(
      "#!/bin/bash\n# Made by \"hadal render\" of a config's [job]: change it there and render "
      "again.\n"
      "{}\n\n{}",
      fmt::join(header, "\n"), script_body(job));
}

}  // namespace hadal::launch
