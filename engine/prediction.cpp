#include "engine/prediction.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "engine/comm/collectively.hpp"
#include "engine/identity.hpp"
#include "engine/input_scaling.hpp"
#include "engine/session.hpp"
#include "engine/stopwatch.hpp"
#include "io/hashing_file.hpp"
#include "io/json.hpp"
#include "io/loader.hpp"
#include "io/prediction_file.hpp"

namespace hadal::engine {
namespace {

using nlohmann::json;

// Between commits: what a cut costs at most, and how often the disk is synced.
constexpr double kCommitSeconds = 5;

// The data without targets, with the ids.
RunConfig without_targets(const RunConfig& given) {
  RunConfig config = given;
  std::erase_if(config.data.fields,
                [](const io::FieldOptions& f) { return f.role != io::FieldRole::input; });
  if (config.data.ids) config.data.fields.push_back(*config.data.ids);
  // A term's loss still says what its output means.
  const std::vector<std::string> targets = target_names(given.data);
  for (TermOptions& term : config.objective.terms) {
    const auto place = std::find(targets.begin(), targets.end(), term.target) - targets.begin();
    if (!term.output && !term.target.empty()) term.output = static_cast<std::size_t>(place);
    term.target.clear();
    term.metrics.clear();
  }
  return config;
}

// Of the term that is made of an output; the first one where none names it.
const LossOptions& loss_of(const ObjectiveOptions& objective, std::size_t output) {
  for (std::size_t t = 0; t < objective.terms.size(); ++t) {
    if (objective.terms[t].output.value_or(t) == output) return objective.terms[t].loss;
  }
  return objective.terms.front().loss;
}

// Axis 1 of an output holds the classes; of scores for a sequence of tokens the last one does.
std::int64_t class_axis(const at::Tensor& output, const io::Batch& batch) {
  const bool tokens = batch.inputs.front().dtype == io::DType::i64;
  return output.dim() > 2 && tokens ? output.dim() - 1 : 1;
}

at::Tensor presented(const at::Tensor& output, const LossOptions& loss, const io::Batch& batch,
                     PredictAs as) {
  const bool classes =
      loss.kind == LossKind::cross_entropy || (loss.kind == LossKind::dice && loss.class_targets);
  const bool labels = loss.kind == LossKind::binary_cross_entropy ||
                      (loss.kind == LossKind::dice && !loss.class_targets);
  if (as == PredictAs::outputs || (!classes && !labels)) return output;
  if (labels) {
    return as == PredictAs::classes ? output.gt(0).to(at::kByte) : at::sigmoid(output);
  }
  const std::int64_t axis = class_axis(output, batch);
  return as == PredictAs::classes ? output.argmax(axis) : at::softmax(output, axis);
}

io::DType dtype_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kLong) return io::DType::i64;
  if (tensor.scalar_type() == at::kByte) return io::DType::u8;
  return tensor.scalar_type() == at::kDouble ? io::DType::f64 : io::DType::f32;
}

std::vector<at::Tensor> outputs_of(Worker& worker, const io::Batch& batch, const RunConfig& config,
                                   PredictAs as) {
  return worker.predict(batch, [&](std::size_t o, at::Tensor output) {
    if (output.dim() == 0 || output.size(0) != batch.count()) {
      throw io::Error(io::ErrorKind::checkpoint,
                      fmt::format("output {} of the model has the shape {} for {} samples; its "
                                  "first axis must be the samples",
                                  o, io::to_string(output.sizes().vec()), batch.count()));
    }
    output = presented(output, loss_of(config.objective, o), batch, as);
    if (output.scalar_type() != at::kLong && output.scalar_type() != at::kByte &&
        output.scalar_type() != at::kDouble) {
      output = output.to(at::kFloat);
    }
    return output.contiguous();
  });
}

std::uint64_t hash_of(Weights& weights) {
  std::uint64_t hash = io::hash_bytes(std::as_bytes(weights.parameters));
  hash = io::hash_bytes(std::as_bytes(weights.frozen), hash);
  hash = io::hash_bytes(weights.buffers.bytes, hash);
  return io::hash_bytes(weights.constants.bytes, hash);
}

class Predictor {
 public:
  Predictor(const RunConfig& config, Communicator& comm, Session& session,
            const io::DataIndex& data, const PredictOptions& options)
      : config_(config),
        comm_(comm),
        session_(session),
        data_(data),
        options_(options),
        reader_(data, session.batch_options(config)),
        blocks_((data.samples + config.train.micro_batch - 1) / config.train.micro_batch) {}

  Prediction run(const std::function<void(std::int64_t, std::int64_t)>& on_progress) {
    const Stopwatch watch;
    io::PredictionFile::Plan plan = agree_on_plan();
    const std::vector<std::int64_t> mine = my_blocks(plan.done);
    const std::int64_t resumed = samples_in(plan.done);
    run_collectively(comm_, "predicting", [&] {
      io::PredictionFile file(options_.output, std::move(plan), comm_.rank());
      write_blocks(file, mine, resumed, on_progress);
    });
    run_collectively(comm_, "finishing the predictions", [&] {
      if (comm_.rank() == 0) io::PredictionFile::finish(options_.output);
    });
    return {.samples = data_.samples, .resumed = resumed, .seconds = watch.seconds()};
  }

 private:
  io::Batch read_block(std::int64_t block) {
    const std::int64_t first = block * config_.train.micro_batch;
    std::vector<std::int64_t> ids(
        static_cast<std::size_t>(std::min(config_.train.micro_batch, data_.samples - first)));
    std::iota(ids.begin(), ids.end(), first);
    return reader_.read(ids);
  }

  std::int64_t samples_in(const std::vector<std::int64_t>& blocks) const {
    std::int64_t samples = 0;
    for (const std::int64_t block : blocks) {
      samples +=
          std::min(config_.train.micro_batch, data_.samples - block * config_.train.micro_batch);
    }
    return samples;
  }

  // Rank 0 learns the shapes from the first micro-batch and prepares the file for all.
  io::PredictionFile::Plan agree_on_plan() {
    std::string text;
    run_collectively(comm_, "preparing the predictions", [&] {
      if (comm_.rank() != 0) return;
      std::vector<io::ShardField> fields;
      const io::Batch batch = read_block(0);
      session_.pool().run(0, 1, [&](Worker& worker, std::int64_t) {
        const auto outputs = outputs_of(worker, batch, config_, options_.as);
        for (std::size_t o = 0; o < outputs.size(); ++o) {
          fields.push_back({outputs.size() == 1 ? "output" : fmt::format("output_{}", o),
                            dtype_of(outputs[o]),
                            io::Shape(outputs[o].sizes().begin() + 1, outputs[o].sizes().end())});
        }
      });
      fields.push_back({config_.data.ids ? "ids" : "index", io::DType::i64, {}});
      const json identity = {{"weights", io::hash_text(hash_of(session_.state().weights))},
                             {"data", io::hash_text(data_.fingerprint)},
                             {"samples", data_.samples},
                             {"micro_batch", config_.train.micro_batch},
                             {"arithmetic", io::hash_text(session_.fingerprint())},
                             {"as", static_cast<int>(options_.as)}};
      text = json(io::PredictionFile::prepare(options_.output, fields, data_.samples, identity))
                 .dump();
    });
    return io::parse_json(broadcast_text(comm_, text)).get<io::PredictionFile::Plan>();
  }

  // A contiguous run of the blocks that are not done.
  std::vector<std::int64_t> my_blocks(const std::vector<std::int64_t>& done) const {
    std::vector<std::int64_t> open;
    for (std::int64_t block = 0; block < blocks_; ++block) {
      if (!std::binary_search(done.begin(), done.end(), block)) open.push_back(block);
    }
    const Share share =
        shares(std::ssize(open), comm_.size())[static_cast<std::size_t>(comm_.rank())];
    return {open.begin() + share.begin, open.begin() + share.end};
  }

  void write_blocks(io::PredictionFile& file, const std::vector<std::int64_t>& mine,
                    std::int64_t resumed,
                    const std::function<void(std::int64_t, std::int64_t)>& on_progress) {
    const auto width = static_cast<std::int64_t>(session_.pool().size());
    const std::int64_t rounds = (std::ssize(mine) + width - 1) / width;
    const auto blocks_of = [&](std::int64_t round) {
      const auto first = mine.begin() + round * width;
      return std::span(first, first + std::min(width, std::ssize(mine) - round * width));
    };
    io::Loader loader(
        [&](std::int64_t round) {
          std::vector<io::Batch> batches;
          for (const std::int64_t block : blocks_of(round)) batches.push_back(read_block(block));
          return batches;
        },
        0, rounds, reader_.threads());
    std::vector<std::int64_t> uncommitted;
    Stopwatch since_commit;
    std::int64_t done = 0;
    for (std::int64_t round = 0; round < rounds; ++round) {
      const std::vector<io::Batch> batches = loader.next();
      const std::span<const std::int64_t> blocks = blocks_of(round);
      session_.pool().run(0, std::ssize(batches), [&](Worker& worker, std::int64_t i) {
        write_block(file, worker, batches[static_cast<std::size_t>(i)]);
      });
      uncommitted.insert(uncommitted.end(), blocks.begin(), blocks.end());
      for (const io::Batch& batch : batches) done += batch.count();
      if (since_commit.seconds() < kCommitSeconds && round + 1 < rounds) continue;
      file.commit(uncommitted);
      uncommitted.clear();
      since_commit.lap();
      // Ranks have equal shares: this one speaks for all.
      on_progress(std::min(data_.samples, resumed + done * comm_.size()), data_.samples);
    }
  }

  void write_block(io::PredictionFile& file, Worker& worker, const io::Batch& batch) {
    if (batch.count() == 0) return;
    const std::int64_t first = batch.ids.front();
    const auto outputs = outputs_of(worker, batch, config_, options_.as);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      file.write(o, first,
                 {static_cast<const std::byte*>(outputs[o].const_data_ptr()), outputs[o].nbytes()});
    }
    const std::span<const std::byte> ids =
        config_.data.ids ? std::span<const std::byte>(batch.sample_ids.front().bytes)
                         : std::as_bytes(std::span(batch.ids));
    file.write(outputs.size(), first, ids);
  }

  const RunConfig& config_;
  Communicator& comm_;
  Session& session_;
  const io::DataIndex& data_;
  const PredictOptions& options_;
  io::BatchReader reader_;
  std::int64_t blocks_;
};

}  // namespace

Prediction predict(const RunConfig& given, const Place& place, Communicator& comm,
                   const PredictOptions& options,
                   const std::function<void(std::int64_t, std::int64_t)>& on_progress) {
  RunConfig config = without_targets(given);
  // A sample that is left out would leave a hole in the file.
  config.data.batch.on_bad_sample = io::OnBadSample::stop;
  const io::DataIndex data = open_dataset(comm, with_known_scaling(comm, config), Split::test);
  std::unique_ptr<Model> model;
  run_collectively(comm, "checking the config", [&] { model = check_applied(config, data); });
  Session session(config, place, comm, data, std::move(model), Session::Purpose::apply);
  load_trained(config, options.weights, comm, session);
  return Predictor(config, comm, session, data, options).run(on_progress);
}

}  // namespace hadal::engine
