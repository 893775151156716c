#include "engine/session.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/comm/collectively.hpp"
#include "engine/model_file.hpp"
#include "io/log.hpp"

namespace hadal::engine {

std::int64_t output_count(const RunConfig& config, const io::DataIndex& data) {
  if (config.objective.loss == LossKind::cross_entropy) {
    if (config.model.options.contains("classes"))
      return config.model.options["classes"].get<std::int64_t>();
    throw io::Error(
        io::ErrorKind::config,
        "model.options.classes is needed with the loss \"cross_entropy\": the number of "
        "classes");
  }
  for (const io::FieldIndex& field : data.fields) {
    if (field.options.role == io::FieldRole::target) return io::element_count(field.sample_shape);
  }
  return 1;
}

Session::Session(const RunConfig& config, const Place& place, Communicator& comm,
                 const io::DataIndex& data)
    : objective_(config.objective),
      model_(
          build_model(config.model, data.fields.front().sample_shape, output_count(config, data))),
      layout_(std::make_unique<ArenaLayout>(model_->parameters())),
      state_(std::make_unique<TrainingState>(TrainingState{
          .parameters = AlignedBuffer(layout_->size()),
          .buffers = initial_buffers(model_->buffers()),
          .optimizer = Optimizer(config.optimizer, *layout_, comm.rank(), comm.size()),
          .progress = {}})) {
  set_operator_threads(config.run.threads);
  run_collectively(comm, "building the model", [&] {
    std::vector<std::span<float>> values(model_->parameters().size());
    for (const ArenaEntry& entry : layout_->entries()) {
      values[entry.parameter] =
          state_->parameters.subspan(entry.offset, entry.offset + entry.count);
    }
    initialise(*model_, config.run.seed, values);
    start_workers(config, place, data);
    if (!config.model.weights.empty()) {
      read_model(config.model.weights, config.model.strict, *model_, *layout_,
                 state_->parameters.span(), state_->buffers);
    }
  });
}

void Session::start_workers(const RunConfig& config, const Place& place,
                            const io::DataIndex& data) {
  const auto make = [this] {
    return std::make_unique<Worker>(*model_, *layout_, objective_, state_->parameters.span());
  };
  pool_ = std::make_unique<WorkerPool>(config.run.threads, make);
  fingerprint_ =
      hadal::engine::fingerprint(*pool_, *layout_, data, config.train.micro_batch, state_->buffers);
  int workers = place.workers;
  if (place.memory_bytes > 0) {
    // A further worker takes its activations and about two more gradient buffers.
    const std::int64_t each = fingerprint_.peak_bytes + 2 * layout_->size() * 4;
    const std::int64_t room = place.memory_bytes - resident_bytes();
    const auto fitting = static_cast<int>(
        std::clamp<std::int64_t>(1 + room / std::max<std::int64_t>(each, 1), 1, workers));
    if (fitting < workers) {
      io::log_warning(
          fmt::format("{} workers instead of {}: one needs {} MiB of the {} MiB that this "
                      "rank may use",
                      fitting, workers, each >> 20, place.memory_bytes >> 20));
      workers = fitting;
    }
  }
  pool_->grow(workers);
}

}  // namespace hadal::engine
