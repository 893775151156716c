#include "engine/plan.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/canonical_fold.hpp"
#include "engine/dataset.hpp"
#include "engine/identity.hpp"
#include "engine/run.hpp"
#include "launch/config.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

using nlohmann::ordered_json;

const char* name_of(io::Shuffle shuffle) {
  return shuffle == io::Shuffle::full ? "full" : (shuffle == io::Shuffle::block ? "block" : "none");
}

ordered_json plan_of_ranks(const engine::RunConfig& config, const io::DataIndex& data,
                           const engine::Model& model, int ranks) {
  const engine::TrainingPlan plan = engine::check_plan(config, data, model, ranks);
  const auto shares = engine::shares(plan.micro_batches, ranks);
  const engine::Leaves leaves(
      std::vector<bool>(static_cast<std::size_t>(plan.micro_batches), true));
  ordered_json counts = ordered_json::array(), nodes = ordered_json::array();
  for (const engine::Share& share : shares) {
    counts.push_back(share.count());
    nodes.push_back(leaves.nodes(share).size());
  }
  return {{"ranks", ranks},
          {"micro_batches_per_rank", counts},
          {"sums_per_rank", nodes},
          {"decoding_amplification", engine::decoding_amplification(config, data, ranks)},
          {"good_micro_batches", engine::good_micro_batches(plan.micro_batches, ranks)}};
}

// What each step reads: step, micro-batch, samples.
void print_order(const engine::RunConfig& config, const io::DataIndex& data, std::int64_t steps) {
  const io::OrderOptions options = engine::order_options(config, data);
  const io::SampleOrder order(options);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (std::int64_t m = 0; m < options.streams; ++m) {
      fmt::print("order: step {} micro-batch {}: {}\n", step + 1, m,
                 fmt::join(order.micro_batch(step / order.steps_per_epoch(),
                                             step % order.steps_per_epoch(), m),
                           " "));
    }
  }
}

}  // namespace

int plan(const PlanArguments& arguments) {
  const LoadedConfig config = load_config(arguments.config.config, arguments.config.settings);
  const auto comm = engine::solo_communicator();
  const io::DataIndex data = engine::open_dataset(*comm, config.run.data, engine::Split::train);
  const std::unique_ptr<engine::Model> model = engine::check_model(config.run, data);
  const engine::TrainingPlan plan = engine::check_plan(config.run, data, *model, 1);
  const engine::ModelSize size = engine::model_size(config.run, *model);
  const io::OrderOptions order = engine::order_options(config.run, data);
  ordered_json document = {
      {"samples", data.samples},
      {"sample_bytes", data.sample_bytes()},
      {"steps", plan.steps},
      {"steps_per_epoch", plan.steps_per_epoch},
      {"micro_batches", plan.micro_batches},
      {"shuffle", name_of(order.shuffle)},
      {"blocks", order.block_starts.empty() ? 0 : order.block_starts.size() - 1},
      {"parameters", size.parameters},
      {"frozen_parameters", size.frozen_parameters},
      {"gradient_bytes_per_worker", size.worker_bytes},
      {"reduction_bytes", size.reduction_bytes},
      {"wire_parts", size.wire_parts},
      {"wire_bytes", size.wire_bytes},
      {"checkpoint_bytes", size.checkpoint_bytes},
      {"ranks", ordered_json::array()}};
  for (const int ranks : arguments.ranks) {
    document["ranks"].push_back(plan_of_ranks(config.run, data, *model, ranks));
  }
  if (arguments.json) {
    fmt::print("{}\n", document.dump(1));
    return 0;
  }
  constexpr double kMiB = 1 << 20;
  fmt::print("data          {} samples of {} bytes, shuffled: {}\n", data.samples,
             data.sample_bytes(), name_of(order.shuffle));
  fmt::print("steps         {} ({} an epoch) of {} samples in {} micro-batches\n", plan.steps,
             plan.steps_per_epoch, config.run.train.global_batch, plan.micro_batches);
  fmt::print("model         {} parameters trained, {:.1f} MiB; {} frozen\n", size.parameters,
             static_cast<double>(size.parameters) * 4 / kMiB, size.frozen_parameters);
  fmt::print("memory        {:.1f} MiB of gradients a worker, besides its activations\n",
             static_cast<double>(size.worker_bytes) / kMiB);
  fmt::print("reduction     {:.1f} MiB of gradients summed over the ranks in a step\n",
             static_cast<double>(size.reduction_bytes) / kMiB);
  if (size.wire_parts > 0) {
    fmt::print("wire          bfloat16 on up to {} hosts, which together keep {:.1f} MiB for it\n",
               size.wire_parts, static_cast<double>(size.wire_bytes) / kMiB);
  }
  fmt::print("checkpoint    {:.1f} MiB, {} kept{}\n",
             static_cast<double>(size.checkpoint_bytes) / kMiB, config.run.checkpoint.keep,
             config.run.checkpoint.asynchronous
                 ? "; as much memory, over all hosts together, to write it from"
                 : "");
  for (const ordered_json& ranks : document["ranks"]) {
    const auto counts = ranks["micro_batches_per_rank"].get<std::vector<std::int64_t>>();
    const auto nodes = ranks["sums_per_rank"].get<std::vector<std::int64_t>>();
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    fmt::print("{:>4} ranks    {} micro-batches each, {} partial sums to send at most",
               ranks["ranks"].get<int>(),
               *least == *most ? fmt::format("{}", *least) : fmt::format("{} to {}", *least, *most),
               *std::max_element(nodes.begin(), nodes.end()));
    if (*least != *most) {
      fmt::print("; even with {} micro-batches",
                 fmt::join(ranks["good_micro_batches"].get<std::vector<std::int64_t>>(), " or "));
    }
    if (const double amplification = ranks["decoding_amplification"].get<double>();
        amplification >= 1.5) {
      fmt::print("; a chunk is decoded about {:.0f} times an epoch", amplification);
    }
    fmt::print("\n");
  }
  print_order(config.run, data, arguments.order_steps);
  return 0;
}

}  // namespace hadal::launch
