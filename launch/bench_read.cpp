#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/median.hpp"
#include "engine/plan.hpp"
#include "engine/stopwatch.hpp"
#include "io/error.hpp"
#include "io/loader.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

using nlohmann::ordered_json;

// What this rank reads of a run's first steps, without a model.
class ReadBench {
 public:
  ReadBench(const BenchReadArguments& arguments, const engine::RunConfig& config,
            const io::DataIndex& data, const engine::Communicator& comm)
      : arguments_(arguments),
        config_(config),
        data_(data),
        order_(engine::order_options(config, data)),
        share_(engine::shares(config.train.global_batch / config.train.micro_batch,
                              comm.size())[static_cast<std::size_t>(comm.rank())]),
        steps_(std::min<std::int64_t>(arguments.steps, order_.steps_per_epoch())) {}

  std::int64_t steps() const { return steps_; }
  std::int64_t samples() const { return samples_; }
  io::RowFetcher::Counts counts() const { return counts_; }

  // Notes which bytes of which files the steps need, for raw().
  void trace() {
    io::BatchReader reader(data_, config_.data.batch);
    reader.set_watch([&](const io::RawRead& read) {
      const auto [at, is_new] = places_.emplace(*read.path, paths_.size());
      if (is_new) paths_.push_back(*read.path);
      raw_.push_back({at->second, read.offset, read.to.size()});
    });
    samples_ = 0;
    for (std::int64_t step = 0; step < steps_; ++step) {
      for (const io::Batch& batch : load(reader, step)) samples_ += batch.count();
    }
    counts_ = reader.counts();
  }

  // Seconds for all steps, as training reads them; a pause after each stands for its computation.
  double batches(double pause) { return batches(data_, pause); }

  // The same, read and decoded by the HDF5 library.
  double library() {
    io::DataIndex data = data_;
    for (io::FieldIndex& field : data.fields) {
      for (io::ScannedDataset& part : field.parts) {
        part.stored.extents.storage = io::Extents::Storage::library;
      }
    }
    return batches(data, 0);
  }

  // Seconds for the same bytes by pread, one after the other on each of as many threads, into
  // memory for one micro-batch each.
  double raw() {
    forget();
    const engine::Stopwatch watch;
    std::vector<io::UniqueFd> files;
    for (const std::string& path : paths_) files.push_back(io::open_for_reading(path));
    std::atomic<std::size_t> next = 0;
    const auto batch_bytes =
        static_cast<std::size_t>(config_.train.micro_batch * data_.sample_bytes());
    std::vector<std::thread> threads;
    for (int k = 0; k < config_.data.batch.readers; ++k) {
      threads.emplace_back([&] {
        std::vector<std::byte> memory(batch_bytes);
        std::size_t used = 0;
        for (std::size_t i = next++; i < raw_.size(); i = next++) {
          const Raw& read = raw_[i];
          if (memory.size() < read.bytes) memory.resize(read.bytes);
          if (used + read.bytes > memory.size()) used = 0;
          io::read_at(files[read.file].get(), std::span(memory).subspan(used, read.bytes),
                      read.offset, paths_[read.file]);
          used += read.bytes;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return watch.seconds();
  }

 private:
  double batches(const io::DataIndex& data, double pause) const {
    forget();
    const engine::Stopwatch watch;
    io::BatchReader reader(data, config_.data.batch);
    io::Loader loader([&](std::int64_t step) { return load(reader, step); }, 0, steps_,
                      config_.data.batch.readers);
    for (std::int64_t step = 0; step < steps_; ++step) {
      loader.next();
      if (pause > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pause));
    }
    return watch.seconds();
  }

  struct Raw {
    std::size_t file;
    std::int64_t offset;
    std::size_t bytes;
  };

  std::vector<io::Batch> load(io::BatchReader& reader, std::int64_t step) const {
    std::vector<io::Batch> batches;
    for (std::int64_t m = share_.begin; m < share_.end; ++m) {
      batches.push_back(
          reader.read(order_.micro_batch(0, step, m), io::Draws{config_.run.seed, 0}));
    }
    return batches;
  }

  // Takes the files out of the system's cache.
  void forget() const {
    if (!arguments_.cold) return;
    for (const std::string& path : paths_) {
      const io::UniqueFd fd = io::open_for_reading(path);
      ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }
  }

  const BenchReadArguments& arguments_;
  const engine::RunConfig& config_;
  const io::DataIndex& data_;
  io::SampleOrder order_;
  engine::Share share_;
  std::int64_t steps_;
  std::int64_t samples_ = 0;
  io::RowFetcher::Counts counts_;
  std::map<std::string, std::size_t> places_;
  std::vector<std::string> paths_;
  std::vector<Raw> raw_;
};

// What every rank has.
std::vector<double> gathered(engine::Communicator& comm, double mine) {
  std::vector<double> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

double total(engine::Communicator& comm, double mine) {
  const std::vector<double> all = gathered(comm, mine);
  return std::accumulate(all.begin(), all.end(), 0.0);
}

// Of the slowest rank.
double slowest(engine::Communicator& comm, double seconds) {
  const std::vector<double> all = gathered(comm, seconds);
  return *std::max_element(all.begin(), all.end());
}

}  // namespace

int bench_read(const BenchReadArguments& arguments, engine::Communicator& comm) {
  LoadedConfig config;
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings);
  });
  const io::DataIndex data = engine::open_dataset(comm, config.run.data, engine::Split::train);
  ReadBench bench(arguments, config.run, data, comm);
  if (bench.steps() == 0) {
    throw io::Error(io::ErrorKind::config, "the training data do not fill one step");
  }
  bench.trace();
  const double pause = arguments.pause / 1e3;
  std::vector<double> batches, raw, library;
  double paused = 0;
  for (int round = 0; round < arguments.rounds; ++round) {
    const auto timed = [&](auto body) {
      comm.barrier();
      return slowest(comm, body());
    };
    batches.push_back(timed([&] { return bench.batches(0); }));
    raw.push_back(timed([&] { return bench.raw(); }));
    if (arguments.library) library.push_back(timed([&] { return bench.library(); }));
    if (pause > 0) paused += timed([&] { return bench.batches(pause); });
  }
  const io::RowFetcher::Counts counts = bench.counts();
  const double samples = total(comm, static_cast<double>(bench.samples()));
  const double asked = total(comm, static_cast<double>(counts.asked));
  const double read = total(comm, static_cast<double>(counts.read));
  const double decoded = total(comm, static_cast<double>(counts.decoded));
  if (comm.rank() != 0) return 0;
  const double seconds = engine::median(batches);
  const double bound = engine::median(raw);
  // As MLPerf Storage has it: the share of the time in which the accelerator, played by a pause,
  // works.
  const double utilisation =
      pause > 0 ? static_cast<double>(bench.steps() * arguments.rounds) * pause / paused : 0;
  if (arguments.json) {
    const ordered_json document = {{"ranks", comm.size()},
                                   {"readers", config.run.data.batch.readers},
                                   {"reader", io::describe_raw_reader()},
                                   {"steps", bench.steps()},
                                   {"samples", samples},
                                   {"sample_bytes", asked},
                                   {"read_bytes", read},
                                   {"decoded_bytes", decoded},
                                   {"seconds", batches},
                                   {"raw_seconds", raw},
                                   {"library_seconds", library},
                                   {"utilisation", utilisation}};
    fmt::print("{}\n", document.dump());
    return 0;
  }
  fmt::print("{} rank{} of {} reader{}, {}: {} steps, {:.0f} samples of {:.0f} bytes\n",
             comm.size(), comm.size() == 1 ? "" : "s", config.run.data.batch.readers,
             config.run.data.batch.readers == 1 ? "" : "s", io::describe_raw_reader(),
             bench.steps(), samples, asked / samples);
  fmt::print("samples/sec: {:.1f}, {:.3f} GB/s of samples, {:.3f} GB/s of the files\n",
             samples / seconds, asked / seconds / 1e9, read / seconds / 1e9);
  fmt::print("raw reads of the same bytes: {:.3f} GB/s; share {:.3f}\n", read / bound / 1e9,
             bound / seconds);
  if (arguments.library) {
    fmt::print("through the HDF5 library: {:.1f} samples/sec\n", samples / engine::median(library));
  }
  fmt::print("amplification: {:.2f} bytes read, {:.2f} decoded, for each byte of the samples\n",
             read / asked, decoded / asked);
  if (pause > 0) {
    fmt::print("accelerator utilisation with steps of {:.1f} ms: {:.1f} %\n", arguments.pause,
               100 * utilisation);
  }
  return 0;
}

}  // namespace hadal::launch
