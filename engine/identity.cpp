#include "engine/identity.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/glob.hpp"
#include "engine/optimizer.hpp"
#include "io/hashing_file.hpp"
#include "io/json.hpp"
#include "io/log.hpp"
#include "io/zip_archive.hpp"

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

void check_smallest_batch(const RunConfig& config, const io::DataIndex& data, const Model& model) {
  if (!model.uses_batch_statistics()) return;
  if (model.batch() && config.data.batch.on_bad_sample == io::OnBadSample::skip) {
    throw io::Error(
        io::ErrorKind::config,
        "data.on_bad_sample = \"skip\" leaves short micro-batches, which a program "
        "with batch norm and a fixed batch cannot take; export it with a dynamic batch");
  }
  const io::SampleOrder order(order_options(config, data));
  const std::int64_t v = config.train.global_batch / config.train.micro_batch;
  for (std::int64_t stream = 0; stream < v; ++stream) {
    const std::int64_t rest = order.stream_length(stream) % config.train.micro_batch;
    // A program of fixed size would have to be fed more than the samples there are.
    const bool short_one = model.batch() && rest != 0;
    if (config.train.micro_batch > 1 && rest != 1 && !short_one) continue;
    if (short_one) {
      throw io::Error(
          io::ErrorKind::config,
          fmt::format("the program has batch norm and a fixed batch of {}, and {} samples leave a "
                      "shorter micro-batch; set data.drop_last = true, or export it with a dynamic "
                      "batch",
                      *model.batch(), data.samples));
    }
    throw io::Error(
        io::ErrorKind::config,
        fmt::format(
            "the model has batch norm, and {} samples in micro-batches of {} leave a micro-batch "
            "of one sample, which has no variance; set data.drop_last = true or another "
            "train.micro_batch",
            data.samples, config.train.micro_batch));
  }
}

// Freezes what the groups freeze for good. A group that matches nothing is a misspelt one.
void apply_groups(const OptimizerOptions& options, Model& model) {
  for (const GroupOptions& group : options.groups) {
    const auto& parameters = model.parameters();
    const bool any = std::any_of(parameters.begin(), parameters.end(), [&](const auto& parameter) {
      return matches_any(group.match, parameter.name);
    });
    if (any) continue;
    throw io::Error(
        io::ErrorKind::config,
        fmt::format("optimizer.group.{}: match = [\"{}\"] names no parameter; there are "
                    "{}, for example {}",
                    group.name, fmt::join(group.match, "\", \""), parameters.size(),
                    parameters.empty() ? "none" : parameters.back().name));
  }
  for (std::size_t p = 0; p < model.parameters().size(); ++p) {
    const GroupOptions* group = group_of(options, model.parameters()[p].name);
    if (group == nullptr) continue;
    if (group->freeze && !group->until) model.freeze(p);
    if (group->keep_statistics) model.keep_statistics(p);
  }
}

// A program may be fit for one of the two only.
void check_modes(const Model& model, bool validates) {
  std::string reason = model.reason_against_training();
  if (reason.empty() && validates) reason = model.reason_against_evaluation();
  if (!reason.empty()) throw io::Error(io::ErrorKind::checkpoint, reason);
}

}  // namespace

json run_identity(const RunConfig& config, const io::DataIndex& train_data,
                  std::uint64_t fingerprint) {
  json keys = json::object();
  for (const auto& [key, value] : config.identity) keys[key] = io::parse_json(value);
  json identity = {{"config", std::move(keys)},
                   {"data", io::hash_text(train_data.fingerprint)},
                   {"arithmetic", io::hash_text(fingerprint)},
                   {"processor", processor_name()}};
  if (!config.model.program.empty()) {
    // The graph, not its place nor the weights that it began with.
    const io::ZipArchive archive(config.model.program);
    identity["program"] = io::hash_text(archive.find("models/model.json")->crc);
  }
  if (!config.model.script.empty()) {
    const std::string content = io::read_file(config.model.script);
    identity["program"] = io::hash_text(io::hash_bytes(std::as_bytes(std::span(content))));
  }
  return identity;
}

void check_identity(const RunConfig& config, const json& before, const json& now) {
  std::vector<std::string> lines = differences(before.at("config"), now.at("config"));
  if (before.at("data") != now.at("data")) {
    lines.push_back("the training data: its content is not the one the run began with");
  }
  if (before.value("program", "") != now.value("program", "")) {
    lines.push_back(config.model.script.empty()
                        ? "model.program: its graph is not the one the run began with"
                        : "model.script: it is not the archive that the run began with");
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

std::unique_ptr<Model> check_model(const RunConfig& config, const io::DataIndex& data) {
  static_cast<void>(Objective(config.objective, target_names(config.data)));
  std::unique_ptr<Model> model =
      build_model(config.model, input_specs(data), output_shape(config, data));
  apply_groups(config.optimizer, *model);
  if (model->batch() && *model->batch() != config.train.micro_batch) {
    throw io::Error(
        io::ErrorKind::config,
        fmt::format("{} was exported for batches of {}, train.micro_batch is {}; set it to {}, or "
                    "export the program with --input {},…",
                    config.model.program, *model->batch(), config.train.micro_batch,
                    *model->batch(), config.train.micro_batch));
  }
  return model;
}

std::unique_ptr<Model> check_applied(const RunConfig& config, const io::DataIndex& data) {
  std::unique_ptr<Model> model = check_model(config, data);
  const std::string reason = model->reason_against_evaluation();
  if (!reason.empty()) throw io::Error(io::ErrorKind::checkpoint, reason);
  return model;
}

TrainingPlan check_plan(const RunConfig& config, const io::DataIndex& train_data,
                        const Model& model, int ranks) {
  check_modes(model, has_split(config.data, Split::valid));
  const io::SampleOrder order(order_options(config, train_data));
  const TrainingPlan plan =
      plan_training(config.train, train_data.samples, order.steps_per_epoch(), ranks);
  check_smallest_batch(config, train_data, model);
  return plan;
}

}  // namespace hadal::engine
