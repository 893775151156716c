#include "launch/commands.hpp"
#include "launch/number_list.hpp"

namespace hadal::launch {
namespace {

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
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
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
  verb->add_option("--device", arguments.device, "Where to compute")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "twin"}))
      ->capture_default_str();
  verb->add_flag("--tensor-float32", arguments.tensor_float32, "On GPUs: train.tensor_float32");
  verb->add_flag("!--no-graphs", arguments.graphs, "On GPUs: not run.graphs");
  verb->add_flag("--any-algorithm", arguments.any_algorithm, "On GPUs: not run.deterministic");
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

}  // namespace

void add_bench(CLI::App& app, Commands& commands) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this place");
  bench->require_subcommand(1);
  CLI::App* verb = bench->add_subcommand(
      "reduce",
      "The gradients' sum over all ranks: in the canonical order, by the library (fast: MPI, on "
      "GPUs NCCL), and a twin that only moves the memory; in turn, results checked");
  BenchReduceArguments& arguments = commands.bench_reduce;
  verb->add_option("--sizes", commands.sizes, "Bytes of a gradient, with commas")
      ->capture_default_str();
  verb->add_option("--optimizer", arguments.optimizer, "Update the parameters too")
      ->check(CLI::IsMember({"none", "sgd", "adamw"}))
      ->capture_default_str();
  verb->add_option("--workers", arguments.workers, "Workers of a rank, one gradient each")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_option("--device", arguments.device, "Where the gradients are")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "twin"}))
      ->capture_default_str();
  verb->add_flag("--share-gpus", arguments.share_gpus, "Several ranks a GPU: run.share_gpus");
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

}  // namespace hadal::launch
