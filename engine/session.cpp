#include "engine/session.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "engine/comm/collectively.hpp"
#include "engine/glob.hpp"
#include "engine/identity.hpp"
#include "engine/model_file.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

Weights::RoundedCopy rounded_copy(const RunConfig& config, Session::Purpose purpose) {
  const bool trains = purpose == Session::Purpose::train;
  return trains && config.train.precision == Precision::bfloat16 ? Weights::RoundedCopy::yes
                                                                 : Weights::RoundedCopy::no;
}

std::int64_t micro_batches(const TrainOptions& train) {
  return train.global_batch / train.micro_batch;
}

// Gradient buffers of a rank, where these are the shares, with so many workers each.
int buffers_for(const std::vector<Share>& shares, int workers) {
  int most = 1;
  for (const Share& share : shares) {
    most = std::max(most, GradientPool::buffers_for(share, workers));
  }
  return most;
}

// Those that share parts out: the ranks of a host add up in its memory, devices each in their own.
HostMemory::Hosts places_of(const HostMemory::Hosts& hosts, bool devices) {
  if (!devices) return hosts;
  HostMemory::Hosts places;
  for (const std::vector<int>& host : hosts) {
    for (const int rank : host) places.push_back({rank});
  }
  return places;
}

// Whether each place has one at least, and the ranks of a host share memory as planned.
void check_parts(const WireParts& parts, std::int64_t wire_parts, const HostMemory::Hosts& planned,
                 const HostMemory::Hosts& found, bool devices) {
  const std::int64_t places = std::ssize(places_of(planned, devices));
  if (places > parts.count) {
    throw io::Error(
        io::ErrorKind::config,
        fmt::format("{} {}, but there are at most {} that have micro-batches for "
                    "train.wire_parts = {}; raise wire_parts, or set train.wire = \"float32\"",
                    places, devices ? "devices" : "hosts", parts.count, wire_parts));
  }
  if (found != planned) {
    throw io::Error(io::ErrorKind::launch,
                    "train.wire = \"bfloat16\" needs memory that the ranks of a host share; start "
                    "one rank a host, or set train.wire = \"float32\"");
  }
}

// What a rank copies for a save, at most: its part of parameters and states, and those of its
// states that go to another host once more.
std::int64_t copied_bytes(const RunConfig& config, const ArenaLayout& layout, int ranks) {
  const std::optional<WireParts> parts = wire_parts(config.train);
  const std::int64_t states =
      std::ssize(Optimizer::state_names(config.optimizer, config.train.wire)) +
      (parts ? parts->count : 0);
  return layout.size() * std::int64_t{sizeof(float)} * (1 + 2 * states) / ranks;
}

}  // namespace

io::Shape output_shape(const RunConfig& config, const io::DataIndex& data) {
  if (config.model.kind.empty()) return {};  // the program knows
  if (const auto classes = classes_of(config.model)) return {*classes};
  if (config.objective.terms.front().loss.kind == LossKind::cross_entropy) {
    throw io::Error(
        io::ErrorKind::config,
        "model.options.classes is needed with the loss \"cross_entropy\": the number of "
        "classes");
  }
  for (const io::FieldIndex& field : data.fields) {
    if (field.options.role == io::FieldRole::target) return field.sample_shape;
  }
  throw io::Error(io::ErrorKind::config,
                  "model.options.classes is needed to predict: the number of values that the model "
                  "gives for a sample");
}

void load_trained(const RunConfig& config, const std::filesystem::path& given, Communicator& comm,
                  Session& session) {
  run_collectively(comm, "reading the weights", [&] {
    const std::filesystem::path own = config.run.dir / "model" / "model.safetensors";
    std::error_code ignored;
    if (!given.empty() || std::filesystem::exists(own, ignored)) {
      read_model(given.empty() ? own : given, {}, session.model(), session.state().weights);
    } else if (config.model.weights.empty() && !config.model.kind.empty()) {
      throw io::Error(
          io::ErrorKind::checkpoint,
          fmt::format("{} does not exist: train first, or name weights with --checkpoint "
                      "or model.weights",
                      own.string()));
    }
  });
  if (session.device() != nullptr) session.take_weights();
}

std::vector<InputSpec> input_specs(const io::DataIndex& data) {
  std::vector<InputSpec> inputs;
  for (const io::FieldIndex& field : data.fields) {
    if (field.options.role != io::FieldRole::input) continue;
    inputs.push_back({field.options.name, field.options.dtype, field.sample_shape});
  }
  return inputs;
}

Session::Session(const RunConfig& config, const Place& place, Communicator& comm,
                 const io::DataIndex& data, std::unique_ptr<Model> model, Purpose purpose)
    : objective_(config.objective, target_names(config.data)), model_(std::move(model)) {
  set_operator_threads(config.run.threads);
  std::optional<Weights::Layouts> layouts;
  run_collectively(comm, "laying out the model", [&] {
    layouts.emplace(*model_);
    if (!config.model.script.empty() && comm.rank() == 0) {
      io::log_warning(
          "model.script: PyTorch has deprecated TorchScript; export the model with torch.export "
          "where its Python code is at hand");
    }
  });
  open_place(config, place, comm);
  take_memory(config, place, comm, *layouts, purpose);
  run_collectively(comm, "setting the first weights", [&] {
    Weights weights(std::move(*layouts), *host_, rounded_copy(config, purpose));
    weights.initialise(*model_, config.run.seed);
    weights.for_each_parameter([&](const ArenaEntry& entry, std::span<float> values) {
      if (!weights.first_on_host || !matches_any(config.model.reset, entry.name)) return;
      draw(model_->parameters()[entry.parameter], config.run.seed, values);
    });
    // Without momentum it keeps no state.
    Optimizer optimizer(OptimizerOptions{}, weights.layout, comm.rank(), comm.size());
    state_ = std::make_unique<TrainingState>(
        TrainingState{std::move(weights),
                      std::move(optimizer),
                      {.loss_scale = LossScale::first(config.train)},
                      std::move(rounding_)});
  });
  if (device_) {
    run_collectively(comm, "taking the weights to the devices", [&] {
      device_weights_ = std::make_unique<DeviceWeights>(*device_, *messages_, state_->weights);
    });
    take_weights();
  }
  run_collectively(comm, "starting the workers", [&] {
    start_workers(config, place, comm, data, purpose);
    if (purpose == Purpose::train) {
      // Now it is known which parameters no gradient ever reaches.
      state_->optimizer = Optimizer(config.optimizer, state_->weights.layout, comm.rank(),
                                    comm.size(), config.train.wire, fingerprint_.arrived);
    }
  });
  for (const std::string& reason : all_gather_text(comm, fewer_workers_)) {
    if (reason.empty()) continue;
    if (comm.rank() == 0) io::log_warning(reason);
    break;
  }
  run_collectively(comm, "reading the first weights", [&] {
    if (!config.model.weights.empty()) {
      read_model(config.model.weights,
                 {.strict = config.model.strict,
                  .key_map = config.model.key_map,
                  .reset = config.model.reset},
                 *model_, state_->weights, comm.rank() == 0 ? Tells::yes : Tells::no);
    }
  });
  if (device_ && !config.model.weights.empty()) take_weights();
  if (purpose == Purpose::train) state_->optimizer.start_from(state_->weights.parameters);
}

void Session::open_place(const RunConfig& config, const Place& place, Communicator& comm) {
  run_collectively(comm, "opening the devices", [&] {
    device_ = open_device(place.device, {.deterministic = config.run.deterministic,
                                         .tensor_float32 = config.train.tensor_float32});
  });
  if (!device_) return;
  messages_ = connect_devices(comm, *device_, {.timeout = config.run.collective_timeout});
}

void Session::take_weights() {
  // The first rank of a host fills the memory that its ranks read.
  host_->barrier();
  device_weights_->push(state_->weights);
}

void Session::take_memory(const RunConfig& config, const Place& place, Communicator& comm,
                          const Weights::Layouts& layouts, Purpose purpose) {
  const std::size_t weights = layouts.bytes(rounded_copy(config, purpose));
  if (purpose == Purpose::apply) {
    host_ = std::make_unique<HostMemory>(comm, weights, 0);
    return;
  }
  const std::optional<WireParts> parts = wire_parts(config.train);
  const std::int64_t elements = layouts.trained.size();
  const bool devices = device_ != nullptr;
  HostMemory::Hosts planned;
  int buffers = 1;
  host_ = std::make_unique<HostMemory>(comm, [&](const HostMemory::Hosts& hosts) {
    planned = hosts;
    const HostMemory::Hosts places = places_of(hosts, devices);
    // Refused below, by all ranks together.
    if (parts && std::ssize(places) > parts->count) return HostMemory::Sizes{};
    shares_ = shares_of(micro_batches(config.train), places, parts);
    HostMemory::Sizes sizes{
        .common = weights + (parts ? PartRounding::bytes(*parts, shares_, hosts, elements) : 0)};
    if (device_) return sizes;
    buffers = buffers_for(shares_, place.workers);
    if (place.memory_bytes > 0 && elements > 0) {
      // Shared memory is taken at once, before it is known how many workers it can hold.
      const std::int64_t each = elements * std::int64_t{sizeof(float)};
      buffers = static_cast<int>(std::clamp<std::int64_t>(place.memory_bytes / 2 / each,
                                                          buffers_for(shares_, 1), buffers));
    }
    sizes.part = GradientPool::bytes(elements, buffers);
    return sizes;
  });
  run_collectively(comm, "sharing out the parts of a step", [&] {
    if (parts) check_parts(*parts, config.train.wire_parts, planned, host_->hosts(), devices);
  });
  shares_ = shares_of(micro_batches(config.train), places_of(host_->hosts(), devices), parts);
  if (!device_) gradients_ = std::make_unique<GradientPool>(*host_, elements, buffers);
  if (!parts) return;
  rounding_.emplace(*parts, shares_, *host_, host_->common().subspan(weights), elements);
}

void Session::start_workers(const RunConfig& config, const Place& place, Communicator& comm,
                            const io::DataIndex& data, Purpose purpose) {
  Weights& weights = state_->weights;
  ParameterPlace parameters{.trained = weights.parameters.data(),
                            .frozen = weights.frozen.data(),
                            .rounded = weights.rounded.data(),
                            .constants = weights.constants.bytes.data()};
  if (device_) {
    parameters = {.trained = device_weights_->parameters().data(),
                  .frozen = device_weights_->frozen().data(),
                  .rounded = device_weights_->rounded().data(),
                  .constants = device_weights_->constants().data(),
                  .device = device_.get()};
  }
  const WorkerOptions options{.precision = config.train.precision,
                              .layout = config.train.layout,
                              .graphs = config.run.graphs,
                              .repeats = config.run.deterministic};
  const auto make = [this, parameters, options] {
    return std::make_unique<Worker>(*model_, objective_, state_->weights, parameters, options);
  };
  pool_ = std::make_unique<WorkerPool>(config.run.threads, make);
  const std::int64_t micro_batch = config.train.micro_batch;
  fingerprint_ = purpose == Purpose::train
                     ? training_fingerprint(*pool_, state_->weights, data, micro_batch,
                                            objective_.term_count(), device_.get())
                     : forward_fingerprint(*pool_, data, micro_batch);
  // One queues for a device.
  int workers = device_ ? 1 : place.workers;
  if (place.memory_bytes > 0 && !device_) {
    // A further worker takes its activations and about two more gradient buffers.
    const std::int64_t gradients =
        purpose == Purpose::train ? 2 * state_->weights.layout.size() * 4 : 0;
    const std::int64_t each = fingerprint_.peak_bytes + gradients;
    std::int64_t room = place.memory_bytes - resident_bytes();
    if (purpose == Purpose::train && config.checkpoint.asynchronous) {
      const std::int64_t copy = copied_bytes(config, state_->weights.layout, comm.size());
      can_copy_state_ = copy <= room;
      if (can_copy_state_) room -= copy;
    }
    const auto fitting = static_cast<int>(
        std::clamp<std::int64_t>(1 + room / std::max<std::int64_t>(each, 1), 1, workers));
    if (fitting < workers) {
      fewer_workers_ = fmt::format(
          "memory for {} of {} workers: one needs {} MiB of the {} MiB that a rank on {} may use "
          "(no result depends on it)",
          fitting, workers, each >> 20, place.memory_bytes >> 20, comm.host());
      workers = fitting;
    }
  }
  pool_->grow(workers);
}

}  // namespace hadal::engine
