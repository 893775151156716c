#include "launch/command_line.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>

#include "engine/comm/collectively.hpp"
#include "engine/device/device_choice.hpp"
#include "io/error.hpp"
#include "io/log.hpp"
#include "kernels/flush_to_zero.hpp"
#include "launch/commands.hpp"
#include "launch/environment.hpp"
#include "launch/number_list.hpp"
#include "launch/pack_options.hpp"
#include "launch/ranks.hpp"
#include "launch/signals.hpp"

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
  // On every rank before the first is out: close() waits for all.
  ignore_terminate();
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

void add_config(CLI::App* verb, ConfigArguments& config, bool required) {
  auto* option = verb->add_option("CONFIG", config.config, "The run's TOML file");
  if (required) option->required();
  verb->add_option("--set", config.settings, "key=value, wins over the file; may be repeated")
      ->allow_extra_args(false);
}

int run_command_line(int argc, char** argv) {
  kernels::set_flush_to_zero();
  raise_file_limit();
  Commands commands;
  for (int i = 0; i < argc; ++i)
    commands.train.command += (i == 0 ? "" : " ") + std::string(argv[i]);
  CLI::App app{kIntroduction, "hadal"};
  app.set_version_flag("--version", [] {
    const std::string cuda = engine::cuda_versions();
    return "hadal " HADAL_VERSION " (libtorch " HADAL_TORCH_VERSION +
           (cuda.empty() ? "" : ", " + cuda) + ")";
  });
  app.footer(kExitCodes);
  app.require_subcommand(1);
  add_train(app, commands);
  add_evaluate(app, commands);
  add_predict(app, commands);
  add_stats(app, commands);
  add_pack(app, commands);
  add_others(app, commands);
  add_job_verbs(app, commands);
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
