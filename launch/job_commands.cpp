#include "launch/commands.hpp"
#include "launch/slurm.hpp"

namespace hadal::launch {
namespace {

void add_render(CLI::App& app, Commands& commands) {
  CLI::App* verb =
      app.add_subcommand("render", "The run as a job: a script or document for a batch system");
  RenderArguments& arguments = commands.rendered;
  verb->add_option("FORM", arguments.form, "For whom")
      ->required()
      ->check(CLI::IsMember(form_names()));
  add_config(verb, arguments.config);
  verb->add_option("--output", arguments.output, "The file to write; else standard output");
  verb->add_flag("--self-contained", arguments.self_contained,
                 "Carry the config inside, for places where nobody can put it");
  verb->add_flag("!--no-check", arguments.check,
                 "Look at neither data nor memory and disk, which are not here");
  verb->add_option("--api", arguments.api, "Of slurmrestd: 38 for v0.0.38")
      ->check(CLI::Range(38, 42))
      ->capture_default_str();
  verb->callback([&] { commands.run = [&] { return render(commands.rendered); }; });
}

void add_doctor(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand(
      "doctor", "Is this place fit? Ranks, cores, memory, network, storage, GPUs; best in a job");
  add_config(verb, commands.doctor.config, /*required=*/false);
  verb->add_flag("--json", commands.doctor.json, "One JSON document");
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return doctor(commands.doctor, comm);
    };
  });
}

void add_address(CLI::App* verb, BatchSystemAddress& address) {
  verb->add_option("--to", address.system, "Who takes jobs; slurm is reached by its commands")
      ->check(CLI::IsMember(batch_system_names()));
  verb->add_option("--endpoint", address.endpoint,
                   "Of slurmrestd or qcg: http://host:port, https://host/api, unix:/path");
  verb->add_option("--token-file", address.token, "A file, readable by its owner alone");
  verb->add_option("--api", address.api, "Of slurmrestd: 38 for v0.0.38")
      ->check(CLI::Range(38, 42));
}

void add_jobs(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand("submit", "Hand the run to a batch system as a job");
  SubmitArguments& submitted = commands.submitted;
  add_config(verb, submitted.config);
  add_address(verb, submitted.address);
  verb->add_option("--times", submitted.times,
                   "So many jobs, one after the other, where a job cannot go on by itself")
      ->check(CLI::Range(1, 1000));
  verb->add_flag("--self-contained", submitted.self_contained,
                 "Carry the config inside, for places where nobody can put it");
  verb->add_flag("!--no-check", submitted.check,
                 "Look at neither data nor memory and disk, which are not here");
  verb->add_flag("--dry-run", submitted.dry_run, "Show what would be handed over");
  verb->callback([&] { commands.run = [&] { return submit(commands.submitted); }; });

  for (const bool cancels : {false, true}) {
    verb = cancels ? app.add_subcommand("cancel", "End the run's job, with its state saved")
                   : app.add_subcommand("status", "Of the run's job, and of the run");
    add_config(verb, commands.job.config);
    verb->get_option("CONFIG")->description("The run's TOML file, or its run folder");
    add_address(verb, commands.job.address);
    verb->add_option("--id", commands.job.id, "Of a job that was not submitted from here");
    if (!cancels) verb->add_flag("--json", commands.job.json, "One JSON document");
    verb->callback([&commands, cancels] {
      commands.run = [&commands, cancels] {
        return cancels ? cancel(commands.job) : status(commands.job);
      };
    });
  }
}

}  // namespace

void add_job_verbs(CLI::App& app, Commands& commands) {
  // For the program itself (launch/slurm.hpp): in no list of verbs.
  CLI::App* verb = app.add_subcommand("slurm-end", "")->group("");
  verb->add_option("JOB", commands.slurm_job)->required();
  verb->callback([&] { commands.run = [&] { return tell_slurm_end(commands.slurm_job); }; });
  add_render(app, commands);
  add_jobs(app, commands);
  add_doctor(app, commands);
}

}  // namespace hadal::launch
