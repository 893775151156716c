#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/median.hpp"
#include "engine/prepared_run.hpp"
#include "engine/session.hpp"
#include "engine/stopwatch.hpp"
#include "engine/trainer.hpp"
#include "io/atomic_file.hpp"
#include "io/hdf5_writer.hpp"
#include "io/sample_order.hpp"
#include "launch/cores.hpp"
#include "launch/gpus.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Network {
  const char* name;
  const char* kind;
  std::map<std::string, std::string> options;
  io::Shape input;
  bool sequence;  // the target is one class a place, the input a sequence of them
  std::int64_t classes;
  std::int64_t micro_batch;
};

const std::vector<Network>& networks() {
  static const std::vector<Network> all = {
      {"mlp", "mlp", {{"hidden", "[2048, 2048, 2048]"}}, {784}, false, 10, 64},
      {"gpt", "gpt", {{"layers", "4"}, {"width", "256"}, {"heads", "4"}}, {128}, true, 512, 8},
      {"resnet18", "resnet18", {}, {3, 64, 64}, false, 10, 32},
      {"resnet50", "resnet50", {}, {3, 224, 224}, false, 1000, 32},
      {"vit", "vit", {}, {3, 224, 224}, false, 1000, 16}};
  return all;
}

// Random samples in a file of the host's temporary folder, removed at the end.
class SyntheticData {
 public:
  // Hosts may share the folder: each writes a file of its own, and all get the same name.
  SyntheticData(fs::path folder, const Network& network, std::int64_t rows, int writer_rank)
      : folder_(std::move(folder)) {
    io::create_folders(folder_);
    const fs::path own = folder_ / fmt::format("{}.{}", kFile, writer_rank);
    const io::DType type = network.sequence ? io::DType::i64 : io::DType::f32;
    io::Hdf5ShardWriter writer(
        own,
        {{"/x", type, network.input},
         {"/y", io::DType::i64, network.sequence ? network.input : io::Shape{}}},
        rows);
    std::uint64_t draw = 0;
    const auto classes = static_cast<std::uint64_t>(network.classes);
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto count = static_cast<std::size_t>(io::element_count(network.input));
      std::vector<float> x(count);
      for (float& value : x) value = static_cast<float>(io::mix(1, ++draw) >> 40) / 8388608.0f - 1;
      std::vector<std::int64_t> tokens(count), wanted(network.sequence ? count : 1);
      for (auto& token : tokens) token = static_cast<std::int64_t>(io::mix(2, ++draw) % classes);
      for (auto& label : wanted) label = static_cast<std::int64_t>(io::mix(3, ++draw) % classes);
      writer.append(
          {network.sequence ? std::as_bytes(std::span(tokens)) : std::as_bytes(std::span(x)),
           std::as_bytes(std::span(wanted))});
    }
    writer.close();
    fs::rename(own, folder_ / kFile);
  }
  ~SyntheticData() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  SyntheticData(const SyntheticData&) = delete;
  SyntheticData& operator=(const SyntheticData&) = delete;

  static constexpr const char* kFile = "synthetic.h5";

 private:
  fs::path folder_;
};

engine::RunConfig config_of(const BenchStepArguments& arguments, const Network& network,
                            const fs::path& file, std::int64_t micro_batches) {
  engine::RunConfig config;
  config.data.train = {file.string()};
  const io::DType type = network.sequence ? io::DType::i64 : io::DType::f32;
  config.data.fields = {
      {.name = "x", .role = io::FieldRole::input, .path = "/x", .files = {}, .dtype = type},
      {.name = "y",
       .role = io::FieldRole::target,
       .path = "/y",
       .files = {},
       .dtype = io::DType::i64,
       .classes = network.classes}};
  config.model.kind = network.kind;
  config.model.options = network.options;
  config.model.options["classes"] = std::to_string(network.classes);
  const std::int64_t batch =
      arguments.micro_batch > 0 ? arguments.micro_batch : network.micro_batch;
  config.train.length = {static_cast<double>(arguments.warm_up + arguments.steps),
                         engine::Span::Unit::steps};
  config.train.global_batch = batch * micro_batches;
  config.train.micro_batch = batch;
  config.train.precision = arguments.precision == "bfloat16"  ? engine::Precision::bfloat16
                           : arguments.precision == "float16" ? engine::Precision::float16
                                                              : engine::Precision::float32;
  config.train.order =
      arguments.order == "fast" ? engine::SumOrder::fast : engine::SumOrder::canonical;
  if (arguments.wire == "bfloat16") {
    config.train.wire = engine::Wire::bfloat16;
    config.train.wire_parts =
        static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(micro_batches)));
  }
  config.run.overlap = arguments.overlap == "always"  ? engine::Overlap::always
                       : arguments.overlap == "never" ? engine::Overlap::never
                                                      : engine::Overlap::automatic;
  config.run.deterministic = !arguments.any_algorithm;
  config.run.graphs = arguments.graphs;
  config.train.tensor_float32 = arguments.tensor_float32;
  config.optimizer.kind =
      arguments.optimizer == "adamw" ? engine::OptimizerKind::adamw : engine::OptimizerKind::sgd;
  config.optimizer.lr = 1e-3;
  config.optimizer.momentum = 0.9;
  config.optimizer.weight_decay = 0.01;
  return config;
}

}  // namespace

std::vector<std::string> bench_models() {
  std::vector<std::string> names;
  for (const Network& network : networks()) names.emplace_back(network.name);
  return names;
}

int bench_step(const BenchStepArguments& arguments, engine::Communicator& comm) {
  const Network& network =
      *std::find_if(networks().begin(), networks().end(),
                    [&](const Network& each) { return arguments.model == each.name; });
  engine::Place place;
  engine::RunOptions run;
  run.workers = arguments.workers;
  run.device = device_wish(arguments.device);
  engine::run_collectively(comm, "looking at the host", [&] { place = find_place(comm, run); });
  const std::string hosts = describe_hosts(comm);
  const std::int64_t micro_batches = std::int64_t{comm.size()} * place.workers;
  const std::int64_t batch =
      arguments.micro_batch > 0 ? arguments.micro_batch : network.micro_batch;
  // The same path on all hosts, written once on each.
  const fs::path folder = engine::broadcast_text(
      comm, (fs::temp_directory_path() / fmt::format("hadal-bench-{}", ::getpid())).string());
  const std::vector<std::string> names = engine::all_gather_text(comm, comm.host());
  const bool writes =
      std::find(names.begin(), names.end(), comm.host()) - names.begin() == comm.rank();
  std::optional<SyntheticData> data;
  engine::run_collectively(comm, "writing synthetic data", [&] {
    if (writes) data.emplace(folder, network, batch * micro_batches, comm.rank());
  });
  const engine::RunConfig config =
      config_of(arguments, network, folder / SyntheticData::kFile, micro_batches);
  const io::DataIndex index = engine::open_dataset(comm, config.data, engine::Split::train);
  engine::CheckedRun checked = engine::check_run(config, comm, index);
  engine::Session session(config, place, comm, index, std::move(checked.model),
                          engine::Session::Purpose::train);
  engine::Trainer trainer(config, checked.plan, comm, session, index);
  std::vector<double> seconds, compute, reduce, update;
  float loss = 0;
  std::int64_t sent_bytes = 0;  // a step, by this rank
  for (int step = 0; step < arguments.warm_up + arguments.steps; ++step) {
    const engine::StepReport report = trainer.step([] { return engine::Wishes{}; });
    loss = report.loss;
    sent_bytes = report.sent_bytes;
    if (step < arguments.warm_up) continue;
    seconds.push_back(report.seconds);
    compute.push_back(report.compute_seconds);
    reduce.push_back(report.reduce_seconds);
    update.push_back(report.update_seconds);
  }
  comm.barrier();  // nobody reads any more
  if (comm.rank() != 0) return 0;
  const auto samples = static_cast<double>(config.train.global_batch);
  std::vector<double> speeds, deviations;
  double mean = 0, squares = 0;
  for (const double each : seconds) speeds.push_back(samples / each);
  for (const double speed : speeds) mean += speed / static_cast<double>(speeds.size());
  for (const double speed : speeds) squares += (speed - mean) * (speed - mean);
  const double middle = engine::median(speeds);
  for (const double speed : speeds) deviations.push_back(std::abs(speed - middle));
  const auto count = static_cast<double>(speeds.size());
  // As tf_cnn_benchmarks has them: the standard error of the mean, and the deviation of a normal
  // distribution with this median of absolute deviations.
  const double uncertainty = std::sqrt(squares / count / count);
  const double jitter = 1.4826 * engine::median(deviations);
  if (arguments.json) {
    const ordered_json document = {{"model", network.name},
                                   {"ranks", comm.size()},
                                   {"workers", place.workers},
                                   {"device", engine::name_of(place.device.kind)},
                                   {"micro_batch", batch},
                                   {"optimizer", arguments.optimizer},
                                   {"precision", arguments.precision},
                                   {"order", arguments.order},
                                   {"overlap", arguments.overlap},
                                   {"wire", arguments.wire},
                                   {"graphs", arguments.graphs},
                                   {"sent_bytes", sent_bytes},
                                   {"samples_per_second", mean},
                                   {"uncertainty", uncertainty},
                                   {"jitter", jitter},
                                   {"step_seconds", seconds},
                                   {"compute_seconds", compute},
                                   {"reduce_seconds", reduce},
                                   {"update_seconds", update},
                                   {"loss", loss}};
    fmt::print("{}\n", document.dump());
    return 0;
  }
  fmt::print("{}, {} worker{} each ({}): {} micro-batches of {}, {} parameters, {}, {}, {}\n",
             hosts, place.workers, place.workers == 1 ? "" : "s",
             engine::name_of(place.device.kind), micro_batches, batch,
             session.state().weights.layout.parameter_count(), arguments.precision,
             arguments.optimizer, arguments.order);
  fmt::print("samples/sec: {:.1f} +/- {:.1f} (jitter = {:.1f})\n", mean, uncertainty, jitter);
  const double whole = engine::median(seconds);
  fmt::print("step {:.2f} ms: compute {:.1f} %, exposed reduction {:.1f} %, update {:.1f} %\n",
             1e3 * whole, 100 * engine::median(compute) / whole,
             100 * engine::median(reduce) / whole, 100 * engine::median(update) / whole);
  return 0;
}

}  // namespace hadal::launch
