#include "engine/identity.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/checkpoint.hpp"
#include "engine/comm/collectively.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<std::string> differences(const json& before, const json& now) {
  std::vector<std::string> lines;
  json keys = before;
  keys.update(now);
  for (const auto& [key, unused] : keys.items()) {
    const std::string was = before.contains(key) ? before[key].dump() : "not set";
    const std::string is = now.contains(key) ? now[key].dump() : "not set";
    if (was != is) lines.push_back(fmt::format("{}: was {}, is {}", key, was, is));
  }
  return lines;
}

void check_identity(const RunConfig& config, const json& before, const json& now) {
  std::vector<std::string> lines = differences(before.at("config"), now.at("config"));
  if (before.at("data") != now.at("data")) {
    lines.push_back("the training data: its content is not the one the run began with");
  }
  if (!lines.empty()) {
    throw io::Error(
        io::ErrorKind::config,
        fmt::format("the run in {} has committed steps and its config has changed:\n  {}\n"
                    "Take the change back, or start a new run from these weights with "
                    "--fork NEWDIR",
                    config.run.dir.string(), fmt::join(lines, "\n  ")));
  }
  if (before.at("arithmetic") == now.at("arithmetic")) return;
  const std::string message = fmt::format(
      "the processor computes other bits than the one before ({}; now {}): the run goes on, "
      "but not to the bits of an uninterrupted one",
      before.at("processor").get<std::string>(), now.at("processor").get<std::string>());
  if (config.run.on_processor_change == OnProcessorChange::stop) {
    throw io::Error(io::ErrorKind::launch, message + "; run.on_processor_change is \"stop\"");
  }
  io::log_warning(message);
}

void check_smallest_batch(const RunConfig& config, const io::DataIndex& data, const Model& model) {
  if (!model.uses_batch_statistics()) return;
  const io::SampleOrder order(order_options(config, data));
  const std::int64_t v = config.train.global_batch / config.train.micro_batch;
  for (std::int64_t stream = 0; stream < v; ++stream) {
    const std::int64_t rest = order.stream_length(stream) % config.train.micro_batch;
    if (config.train.micro_batch > 1 && rest != 1) continue;
    throw io::Error(
        io::ErrorKind::config,
        fmt::format(
            "the model has batch norm, and {} samples in micro-batches of {} leave a micro-batch "
            "of one sample, which has no variance; set data.drop_last = true or another "
            "train.micro_batch",
            data.samples, config.train.micro_batch));
  }
}

}  // namespace

json run_identity(const RunConfig& config, const io::DataIndex& train_data,
                  std::uint64_t fingerprint) {
  return {{"config", config.identity},
          {"data", io::hash_text(train_data.fingerprint)},
          {"arithmetic", io::hash_text(fingerprint)},
          {"processor", processor_name()}};
}

void compare_hosts(const RunConfig& config, Communicator& comm, std::uint64_t fingerprint) {
  const std::string mine =
      fmt::format("{} ({} on {})", io::hash_text(fingerprint), processor_name(), comm.host());
  const std::vector<std::string> all = all_gather_text(comm, mine);
  const std::size_t hash_digits = io::hash_text(0).size();
  const auto other = std::find_if(all.begin(), all.end(), [&](const std::string& theirs) {
    return theirs.compare(0, hash_digits, all.front(), 0, hash_digits) != 0;
  });
  if (other == all.end()) return;
  const std::string message = fmt::format(
      "ranks compute other bits from the same numbers: rank 0 {}, rank {} {}; pin run.isa, or "
      "use nodes of one kind, for results that do not depend on who computes what",
      all.front(), other - all.begin(), *other);
  if (config.run.on_processor_change == OnProcessorChange::stop) {
    throw AgreedError(io::ErrorKind::launch, message);
  }
  if (comm.rank() == 0) io::log_warning(message);
}

fs::path resume(const RunConfig& config, const Place& place, Communicator& comm, Session& session,
                const json& identity, std::optional<io::CheckpointStore>& store) {
  json found = {{"folder", ""}, {"run", nullptr}, {"fork", false}};
  run_collectively(comm, "looking for a checkpoint", [&] {
    if (comm.rank() != 0) return;
    store.emplace(config.run.dir / "checkpoints");
    store->remove_leftovers();
    std::vector<std::string> passed;
    auto checkpoint = store->newest_valid(passed);
    if (!checkpoint && !place.fork_from.empty()) {
      checkpoint = io::CheckpointStore(place.fork_from / "checkpoints").newest_valid(passed);
      if (!checkpoint) {
        throw io::Error(io::ErrorKind::checkpoint,
                        fmt::format("{} has no checkpoint to fork from", place.fork_from.string()));
      }
      found["fork"] = true;
    }
    for (const std::string& reason : passed)
      io::log_warning(fmt::format("passed over: {}", reason));
    if (!checkpoint) return;
    if (!found["fork"].get<bool>()) check_identity(config, checkpoint->manifest.run, identity);
    found["folder"] = checkpoint->folder.string();
    found["run"] = checkpoint->manifest.run;
  });
  found = json::parse(broadcast_text(comm, found.dump()));
  const fs::path folder = found["folder"].get<std::string>();
  if (folder.empty()) return folder;
  TrainingState& state = session.state();
  if (found["fork"].get<bool>()) {
    const bool kept =
        load_fork(comm, folder, found["run"], session.model(), session.layout(), state);
    if (comm.rank() == 0) {
      io::log_info(fmt::format("a new run from the weights{} of {}{}",
                               kept ? " and the optimizer's state" : "", folder.string(),
                               kept ? "" : "; the optimizer keeps other states and starts anew"));
    }
    return {};
  }
  load_checkpoint(comm, folder, found["run"], session.model(), session.layout(), state);
  if (comm.rank() == 0) {
    io::log_info(fmt::format("resuming at step {} from {}", state.progress.step, folder.string()));
  }
  return folder;
}

std::unique_ptr<Model> check_model(const RunConfig& config, const io::DataIndex& data) {
  static_cast<void>(Objective(config.objective));
  return build_model(config.model, data.fields.front().sample_shape, output_count(config, data));
}

TrainingPlan check_plan(const RunConfig& config, const io::DataIndex& train_data, int ranks) {
  const std::unique_ptr<Model> model = check_model(config, train_data);
  const io::SampleOrder order(order_options(config, train_data));
  const TrainingPlan plan =
      plan_training(config.train, train_data.samples, order.steps_per_epoch(), ranks);
  check_smallest_batch(config, train_data, *model);
  return plan;
}

}  // namespace hadal::engine
