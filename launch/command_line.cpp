#include "launch/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>

#include "engine/comm/collectively.hpp"
#include "io/error.hpp"
#include "io/log.hpp"
#include "kernels/flush_to_zero.hpp"
#include "launch/environment.hpp"
#include "launch/number_list.hpp"
#include "launch/pack_options.hpp"
#include "launch/ranks.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

constexpr int kUsage = static_cast<int>(io::ErrorKind::usage);

constexpr const char* kIntroduction =
    "hadal trains a PyTorch model, data-parallel, over the ranks that mpirun or srun starts, from "
    "one\n"
    "TOML file. The same command starts a run and resumes it; its result does not depend on the "
    "number\n"
    "of ranks, on workers or on interruptions.\n\n"
    "  hadal pack table.csv.gz --output data --input 0-63 --target 64\n"
    "  hadal check config.toml --data\n"
    "  mpirun -n 4 hadal train config.toml --set train.epochs=20\n"
    "  hadal evaluate config.toml --data valid\n"
    "  hadal predict config.toml --data 'new-*.h5' --output predictions.h5\n";

constexpr const char* kExitCodes =
    "Exit codes: 0 done, 64 usage, 65 data, 66 checkpoint or model cannot be used, 69 launch or\n"
    "environment, 70 bug, 72 numeric, 74 storage, 75 stopped on purpose with the state saved (run "
    "the\n"
    "same command again), 76 another rank lost, 78 config. status.json in the run folder says the "
    "same.";

// What the command line asks for: filled by CLI11, run after parsing.
struct Commands {
  TrainArguments train;
  EvaluateArguments evaluate;
  PredictArguments predict;
  CheckArguments check;
  PlanArguments plan;
  ExportArguments exported;
  RenderArguments rendered;
  DoctorArguments doctor;
  SubmitArguments submitted;
  JobArguments job;
  BenchReduceArguments bench_reduce;
  StatsArguments stats;
  BenchReadArguments bench_read;
  BenchCheckpointArguments bench_checkpoint;
  ChaosArguments chaos;
  BenchStepArguments bench_step;
  io::PackOptions pack;
  InspectArguments inspected;
  bool single = false;
  std::string ranks = "1,2,4,8";
  std::string sizes = "1048576,26214400,104857600";
  std::function<int()> run;  // for verbs on one process
  std::function<int(engine::Communicator&)> run_on_ranks;
  double patience = 30;  // seconds with others at the end
};

void add_config(CLI::App* verb, ConfigArguments& config, bool required = true) {
  auto* option = verb->add_option("CONFIG", config.config, "The run's TOML file");
  if (required) option->required();
  verb->add_option("--set", config.settings, "key=value, wins over the file; may be repeated")
      ->allow_extra_args(false);
}

void add_train(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand("train", "Start a run, or go on where it stopped");
  add_config(verb, commands.train.config);
  verb->add_option("--fork", commands.train.fork,
                   "Start a new run in this folder from the run's weights and optimizer state");
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return train(commands.train, comm, commands.patience);
    };
  });
}

void add_evaluate(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand("evaluate", "Exact loss and metrics of a split");
  add_config(verb, commands.evaluate.config);
  verb->add_option("--data", commands.evaluate.split, "Which split")
      ->check(CLI::IsMember({"train", "valid", "test"}))
      ->capture_default_str();
  verb->add_option("--checkpoint", commands.evaluate.weights,
                   "A checkpoint folder or safetensors file; else the run's own model");
  verb->add_flag("--json", commands.evaluate.json, "One JSON document");
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return evaluate(commands.evaluate, comm);
    };
  });
}

void add_predict(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand(
      "predict", "Apply the model to data: one HDF5 file with its outputs in the samples' order");
  PredictArguments& arguments = commands.predict;
  add_config(verb, arguments.config);
  verb->add_option("--data", arguments.data, "train, valid, test, or HDF5 files and patterns")
      ->required();
  verb->add_option("--output", arguments.output,
                   "The file to write; an unfinished one is gone on with")
      ->required();
  verb->add_option("--checkpoint", arguments.weights,
                   "A checkpoint folder or safetensors file; else the run's own model");
  verb->add_option("--as", arguments.as, "The model's outputs, or probabilities or classes of them")
      ->check(CLI::IsMember({"outputs", "probabilities", "classes"}))
      ->capture_default_str();
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return predict(commands.predict, comm);
    };
  });
}

void add_pack(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand(
      "pack",
      "Make HDF5 shards out of a table (CSV, CSV.gz), numpy's arrays, a folder of images or sounds "
      "with a subfolder a class, text, or other HDF5 files");
  add_pack_options(*verb, commands.pack);
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) { return pack(commands.pack, comm); };
  });
}

void add_others(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand("inspect",
                                      "Show what an HDF5 file, a safetensors file, a program "
                                      "(.pt2), a run or a config's data hold");
  verb->add_option("PATH", commands.inspected.path, "File or folder")->required();
  verb->add_option("--samples", commands.inspected.samples,
                   "Of a config: draw the first images as they are trained on, as PNG");
  verb->add_flag("--json", commands.inspected.json, "One JSON document");
  verb->callback([&] { commands.run = [&] { return inspect(commands.inspected); }; });

  verb = app.add_subcommand("check",
                            "Find every fault of a config, and of its data, before a job does");
  add_config(verb, commands.check.config, /*required=*/false);
  verb->add_flag("--data", commands.check.data, "Scan the data files too");
  verb->add_flag("--deep", commands.check.deep, "And read and look at every sample");
  verb->add_flag("--schema", commands.check.schema, "Print the config's JSON Schema");
  verb->callback([&] {
    commands.run = [&] {
      commands.check.data = commands.check.data || commands.check.deep;
      if (!commands.check.schema && commands.check.config.config.empty()) {
        throw io::Error(io::ErrorKind::usage, "check needs a CONFIG, or --schema");
      }
      return check(commands.check);
    };
  });

  verb = app.add_subcommand("export", "Hand back the trained model in another form");
  add_config(verb, commands.exported.config);
  verb->get_option("CONFIG")->description("The run's TOML file, or its run folder");
  verb->add_option("--to", commands.exported.to,
                   "safetensors; pt2: the program with the trained weights, for torch.export.load; "
                   "onnx-helper: a Python script that makes ONNX of it")
      ->check(CLI::IsMember({"safetensors", "pt2", "onnx-helper"}))
      ->capture_default_str();
  verb->add_option("--output", commands.exported.output, "The file to write")->required();
  verb->add_option("--checkpoint", commands.exported.weights,
                   "A checkpoint folder or safetensors file; else the run's own model");
  verb->callback([&] { commands.run = [&] { return export_model(commands.exported); }; });

  verb =
      app.add_subcommand("plan", "What a run would do: steps, shares of the ranks, memory, order");
  add_config(verb, commands.plan.config);
  verb->add_option("--ranks", commands.ranks, "Numbers of ranks to plan for")
      ->capture_default_str();
  verb->add_option("--order", commands.plan.order_steps, "Print the samples of the first steps");
  verb->add_flag("--json", commands.plan.json, "One JSON document");
  verb->callback([&] {
    commands.run = [&] {
      commands.plan.ranks.clear();
      for (const std::int64_t n : number_list(commands.ranks, "--ranks")) {
        commands.plan.ranks.push_back(static_cast<int>(n));
      }
      return plan(commands.plan);
    };
  });
}

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
      "doctor", "Is this place fit? Ranks, cores, memory, network, storage; best in a job");
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

void add_bench_step(CLI::App* bench, Commands& commands) {
  CLI::App* verb = bench->add_subcommand(
      "step", "Whole steps of a network of the zoo on synthetic data, a micro-batch a worker");
  BenchStepArguments& arguments = commands.bench_step;
  verb->add_option("--model", arguments.model, "Which network")
      ->check(CLI::IsMember(bench_models()))
      ->capture_default_str();
  verb->add_option("--optimizer", arguments.optimizer, "")
      ->check(CLI::IsMember({"sgd", "adamw"}))
      ->capture_default_str();
  verb->add_option("--precision", arguments.precision, "Of the forward pass")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  verb->add_option("--order", arguments.order, "Of the gradients' sum")
      ->check(CLI::IsMember({"canonical", "fast"}))
      ->capture_default_str();
  verb->add_option("--overlap", arguments.overlap, "Of messages between hosts with backward")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  verb->add_option("--wire", arguments.wire, "Of gradients and parameters between hosts")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  verb->add_option("--micro-batch", arguments.micro_batch, "Samples of a forward and backward")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--workers", arguments.workers, "Of a rank; else all of its cores")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--steps", arguments.steps, "Timed steps")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  verb->add_option("--warm-up", arguments.warm_up, "Steps before them")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  verb->add_flag("--json", arguments.json, "One JSON document");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return bench_step(commands.bench_step, comm);
    };
  });
}

void add_stats(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand(
      "stats",
      "Mean and deviation of a split's inputs, channel by channel, as a config wants them");
  add_config(verb, commands.stats.config);
  verb->add_option("--data", commands.stats.split, "Which split")
      ->check(CLI::IsMember({"train", "valid", "test"}))
      ->capture_default_str();
  verb->add_flag("--json", commands.stats.json, "One JSON document");
  verb->add_flag("--single", commands.single, "One rank on purpose, whatever the environment says");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) { return stats(commands.stats, comm); };
  });
}

void add_bench_read(CLI::App* bench, Commands& commands) {
  CLI::App* verb = bench->add_subcommand(
      "read", "A run's training data without its model, in turn with raw reads of the same bytes");
  BenchReadArguments& arguments = commands.bench_read;
  add_config(verb, arguments.config);
  verb->add_option("--steps", arguments.steps, "Steps of the first epoch, at most")
      ->check(CLI::Range(1, 100000000))
      ->capture_default_str();
  verb->add_option("--rounds", arguments.rounds, "Each runs once in a round, in turn")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--pause", arguments.pause,
                   "Also with so many milliseconds of sleep after each step, for the utilisation")
      ->check(CLI::Range(0.0, 1e6));
  verb->add_flag("--library", arguments.library, "Also through the HDF5 library alone");
  verb->add_flag("--cold", arguments.cold, "Take the files out of the system's cache before");
  verb->add_flag("--json", arguments.json, "One JSON document");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return bench_read(commands.bench_read, comm);
    };
  });
}

void add_bench_checkpoint(CLI::App* bench, Commands& commands) {
  CLI::App* verb = bench->add_subcommand(
      "checkpoint",
      "A run's checkpoints below run.dir: saved beside training and with training waiting, in turn "
      "with plain writes of the same bytes, and read again");
  BenchCheckpointArguments& arguments = commands.bench_checkpoint;
  add_config(verb, arguments.config);
  verb->add_option("--rounds", arguments.rounds, "Each runs once in a round, in turn")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--steps", arguments.steps, "Steps without a save in a round")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_flag("--json", arguments.json, "One JSON document");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      return bench_checkpoint(commands.bench_checkpoint, comm);
    };
  });
}

void add_chaos(CLI::App& app, Commands& commands) {
  CLI::App* verb = app.add_subcommand(
      "chaos",
      "Start the run again and again under faults (kills, signals, full and failing disks, damaged "
      "files, a wrong clock), and compare its end with that of a run that nobody disturbed");
  ChaosArguments& arguments = commands.chaos;
  add_config(verb, arguments.config);
  verb->add_option("--minutes", arguments.minutes, "How long")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  verb->add_option("--faults", arguments.faults, "And how many of them, at most")
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--ranks", arguments.ranks, "At most so many; each start has another number")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--seed", arguments.seed, "Of all that is drawn")->capture_default_str();
  verb->add_option("--launcher", arguments.launcher,
                   "Words that start ranks, before their number; else mpirun -n");
  verb->add_option("--folder", arguments.folder,
                   "Where; else the run folder with -chaos behind it");
  verb->add_flag("--json", arguments.json, "One JSON document");
  verb->callback([&] { commands.run = [&] { return chaos(commands.chaos); }; });
}

void add_bench(CLI::App& app, Commands& commands) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this place");
  bench->require_subcommand(1);
  CLI::App* verb = bench->add_subcommand(
      "reduce",
      "The gradients' sum over all ranks: in the canonical order, by the MPI library "
      "(fast), and a twin that only moves the memory; in turn, results checked");
  BenchReduceArguments& arguments = commands.bench_reduce;
  verb->add_option("--sizes", commands.sizes, "Bytes of a gradient, with commas")
      ->capture_default_str();
  verb->add_option("--optimizer", arguments.optimizer, "Update the parameters too")
      ->check(CLI::IsMember({"none", "sgd", "adamw"}))
      ->capture_default_str();
  verb->add_option("--workers", arguments.workers, "Workers of a rank, one gradient each")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--rounds", arguments.rounds, "Each runs once in a round, in turn")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_flag("--json", arguments.json, "One JSON document");
  verb->callback([&] {
    commands.run_on_ranks = [&](engine::Communicator& comm) {
      commands.bench_reduce.sizes = number_list(commands.sizes, "--sizes");
      return bench_reduce(commands.bench_reduce, comm);
    };
  });
  add_bench_read(bench, commands);
  add_bench_checkpoint(bench, commands);
  add_bench_step(bench, commands);
}

void report(const io::Error& error) {
  io::flush_log();
  fmt::print(stderr, "hadal: {} error: {}\n", io::name_of(error.kind()), error.what());
  std::fflush(stderr);
}

int run_one(const Commands& commands) {
  try {
    return commands.run();
  } catch (const std::exception& exception) {
    const io::Error error = io::as_error(exception);
    report(error);
    return error.exit_code();
  }
}

// All has been said and done, and is on the disk: a rank that stops now, its node dead, must not
// hold the others.
void leave(engine::Communicator& comm, int code, double patience) {
  std::promise<void> left;
  const std::future<void> done = left.get_future();
  const auto guard = std::async(std::launch::async, [&] {
    if (done.wait_for(std::chrono::duration<double>(patience)) == std::future_status::ready) return;
    fmt::print(stderr,
               "hadal: rank {} on {} leaves without the others: one of them does not come\n",
               comm.rank(), comm.host());
    std::fflush(stderr);
    std::_Exit(code);
  });
  try {
    comm.close();
  } catch (...) {
    left.set_value();
    throw;
  }
  left.set_value();
}

int run_ranks(const Commands& commands) {
  std::unique_ptr<engine::Communicator> comm;
  try {
    comm = join_ranks(commands.single);
    io::start_log(comm->rank(), comm->host(), io::LogLevel::info);
    check_ranks(*comm, commands.single);
    const int code = commands.run_on_ranks(*comm);
    leave(*comm, code, commands.patience);
    return code;
  } catch (const engine::AgreedError& error) {
    // Every rank is here; one of them tells.
    if (comm->rank() == 0) report(error);
    leave(*comm, error.exit_code(), commands.patience);
    return error.exit_code();
  } catch (const std::exception& exception) {
    const io::Error error = io::as_error(exception);
    report(error);
    if (comm && comm->size() > 1) comm->abort(error.exit_code());
    return error.exit_code();
  }
}

}  // namespace

int run_command_line(int argc, char** argv) {
  kernels::set_flush_to_zero();
  raise_file_limit();
  Commands commands;
  for (int i = 0; i < argc; ++i)
    commands.train.command += (i == 0 ? "" : " ") + std::string(argv[i]);
  CLI::App app{kIntroduction, "hadal"};
  app.set_version_flag("--version", "hadal " HADAL_VERSION " (libtorch " HADAL_TORCH_VERSION ")");
  app.footer(kExitCodes);
  app.require_subcommand(1);
  add_train(app, commands);
  add_evaluate(app, commands);
  add_predict(app, commands);
  add_stats(app, commands);
  add_pack(app, commands);
  add_others(app, commands);
  add_render(app, commands);
  add_jobs(app, commands);
  add_doctor(app, commands);
  add_bench(app, commands);
  add_chaos(app, commands);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& failure) {
    return app.exit(failure) == 0 ? 0 : kUsage;
  }
  return commands.run ? run_one(commands) : run_ranks(commands);
}

}  // namespace hadal::launch
