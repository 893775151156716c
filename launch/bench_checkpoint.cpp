#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/checkpoint_reader.hpp"
#include "engine/checkpoint_writer.hpp"
#include "engine/comm/collectively.hpp"
#include "engine/dataset.hpp"
#include "engine/median.hpp"
#include "engine/prepared_run.hpp"
#include "engine/session.hpp"
#include "engine/stopwatch.hpp"
#include "engine/trainer.hpp"
#include "io/error.hpp"
#include "launch/config.hpp"
#include "launch/cores.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::int64_t kStep = 1;

// One round's seconds each.
struct Times {
  std::vector<double> step;    // none is saved
  std::vector<double> copy;    // of what is saved, beside training
  std::vector<double> lost;    // by training to a save beside it: its steps' times, less `step`
  std::vector<double> waited;  // of that, by the thread that talks to other ranks
  std::vector<double> step_beside;  // while one is written, after the copy
  std::vector<double> beside;       // such a save's own time, on its writer
  std::vector<double> blocking;     // a save that training waits for
  std::vector<double> raw_cached;   // write and fsync of the same bytes
  std::vector<double> raw_direct;   // the same past the system's cache
  std::vector<double> load;         // what was saved past the cache
  std::vector<double> load_cached;  // once more
};

class CheckpointBench {
 public:
  CheckpointBench(const engine::RunConfig& config, const fs::path& folder,
                  engine::Communicator& comm, engine::Session& session, engine::Trainer& trainer)
      : comm_(comm),
        session_(session),
        trainer_(trainer),
        folder_(folder),
        memory_(comm, session.host(), session.model(), session.state(),
                config.checkpoint.asynchronous ? engine::CheckpointMemory::Room::whole
                                               : engine::CheckpointMemory::Room::window),
        writer_(comm, memory_, std::clamp(session.pool().size() / 2, 1, 4),
                {.folder = folder, .keep = 1, .stays = [](std::int64_t) { return false; }}) {}

  std::int64_t bytes() const { return memory_.layout.bytes(); }
  std::int64_t writers() const { return std::ssize(memory_.hosts()); }
  const Times& times() const { return times_; }

  // Collective. Each of what is compared, in turn.
  void round(int steps) {
    std::vector<double> plain;
    for (int s = 0; s < steps; ++s) plain.push_back(step({}));
    times_.step.push_back(engine::median(plain));
    if (memory_.is_whole()) save_beside();
    comm_.barrier();
    const engine::Stopwatch saving;
    writer_.begin(kStep, run());
    const fs::path saved = writer_.finish();
    times_.blocking.push_back(saving.seconds());
    for (auto member : {&Times::load, &Times::load_cached}) {
      comm_.barrier();
      const engine::Stopwatch loading;
      engine::load_checkpoint(comm_, memory_, io::read_manifest(saved), session_.pool().team(),
                              session_.state());
      comm_.barrier();
      (times_.*member).push_back(loading.seconds());
    }
    raw(times_.raw_cached, 0);
    raw(times_.raw_direct, O_DIRECT);
  }

 private:
  nlohmann::json run() {
    return {{"progress", engine::progress_record(session_.state().progress)}};
  }

  // Seconds. `beside` is added to the time that training waits.
  double step(double* waited) {
    const engine::Stopwatch watch;
    trainer_.step([&] {
      const engine::Stopwatch waiting;
      writer_.copy();
      engine::Wishes mine;
      mine.save_progress = writer_.progress();
      progress_ = mine.save_progress;
      if (waited != nullptr) *waited += waiting.seconds();
      return mine;
    });
    return watch.seconds();
  }

  void save_beside() {
    double waited = 0;
    const engine::Stopwatch beginning;
    writer_.begin(kStep, run());
    waited += beginning.seconds();
    std::vector<double> beside;
    while (writer_.busy()) {
      beside.push_back(step(&waited));
      const std::int32_t agreed = engine::least_of_all(comm_, progress_);
      const engine::Stopwatch advancing;
      writer_.advance(agreed);
      waited += advancing.seconds();
    }
    times_.copy.push_back(writer_.copy_seconds());
    const double plain = times_.step.back();
    times_.lost.push_back(std::accumulate(beside.begin(), beside.end(), 0.0) -
                          plain * static_cast<double>(beside.size()));
    beside.erase(beside.begin());
    if (!beside.empty()) times_.step_beside.push_back(engine::median(beside));
    times_.waited.push_back(waited);
    times_.beside.push_back(writer_.seconds());
  }

  // One writer a host, each as many bytes as in a save, 8 MiB at a time.
  void raw(std::vector<double>& seconds, int flags) {
    constexpr std::int64_t kPiece = std::int64_t{8} << 20;
    const fs::path path = folder_ / fmt::format("raw-{}", comm_.rank());
    const std::span<std::byte> piece = piece_.subspan(kPiece);
    bool possible = true;
    comm_.barrier();
    const engine::Stopwatch watch;
    engine::run_collectively(comm_, "writing as a yardstick", [&] {
      if (memory_.image.host().rank() != 0) return;
      const io::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | flags, 0666));
      possible = static_cast<bool>(fd);
      const std::int64_t mine = memory_.blocks.count() * io::kFileBlockBytes;
      for (std::int64_t at = 0; possible && at < mine; at += kPiece) {
        io::write_at(fd.get(), piece.first(static_cast<std::size_t>(std::min(kPiece, mine - at))),
                     at, path);
      }
      if (possible) io::sync_file(fd.get(), path);
    });
    comm_.barrier();
    if (possible) seconds.push_back(watch.seconds());
    std::error_code ignored;
    fs::remove(path, ignored);
  }

  // From a page on.
  struct Piece {
    std::span<std::byte> subspan(std::int64_t bytes) {
      constexpr std::size_t kPage = 4096;
      memory.resize(static_cast<std::size_t>(bytes) + kPage);
      void* start = memory.data();
      std::size_t room = memory.size();
      return {
          static_cast<std::byte*>(std::align(kPage, static_cast<std::size_t>(bytes), start, room)),
          static_cast<std::size_t>(bytes)};
    }
    std::vector<std::byte> memory;
  };

  engine::Communicator& comm_;
  engine::Session& session_;
  engine::Trainer& trainer_;
  fs::path folder_;
  Piece piece_;
  std::int32_t progress_ = 0;
  engine::CheckpointMemory memory_;
  engine::CheckpointWriter writer_;
  Times times_;
};

void show(const char* name, const std::vector<double>& seconds, std::int64_t bytes,
          const std::string& note) {
  if (seconds.empty()) return;
  const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
  const double middle = engine::median(seconds);
  fmt::print("{:<34} {:8.3f} s  ({:.3f} to {:.3f})", name, middle, *least, *most);
  if (bytes > 0) fmt::print("  {:5.2f} GB/s", static_cast<double>(bytes) / 1e9 / middle);
  fmt::print("{}\n", note);
}

}  // namespace

int bench_checkpoint(const BenchCheckpointArguments& arguments, engine::Communicator& comm) {
  engine::RunConfig config;
  engine::Place place;
  engine::run_collectively(comm, "reading the config", [&] {
    config = load_config(arguments.config.config, arguments.config.settings).run;
    place = find_place(comm, config.run);
  });
  // As many steps as it takes.
  config.train.length = {1e9, engine::Span::Unit::steps};
  const io::DataIndex data = engine::open_dataset(comm, config.data, engine::Split::train);
  engine::CheckedRun run = engine::check_run(config, comm, data);
  engine::Session session(config, place, comm, data, std::move(run.model),
                          engine::Session::Purpose::train);
  engine::Trainer trainer(config, run.plan, comm, session, data);
  const fs::path folder = config.run.dir / "bench-checkpoint";
  CheckpointBench bench(config, folder, comm, session, trainer);
  bench.round(arguments.steps);  // its memory's pages are new
  const Times first = bench.times();
  for (int round = 0; round < arguments.rounds; ++round) bench.round(arguments.steps);
  std::error_code ignored;
  if (comm.rank() != 0) return 0;
  fs::remove_all(folder, ignored);
  Times times = bench.times();
  for (auto member : {&Times::step, &Times::copy, &Times::lost, &Times::waited, &Times::step_beside,
                      &Times::beside, &Times::blocking, &Times::raw_cached, &Times::raw_direct,
                      &Times::load, &Times::load_cached}) {
    std::vector<double>& all = times.*member;
    all.erase(all.begin(), all.begin() + std::ssize(first.*member));
  }
  if (arguments.json) {
    const ordered_json document = {{"bytes", bench.bytes()},
                                   {"ranks", comm.size()},
                                   {"writers", bench.writers()},
                                   {"step", times.step},
                                   {"copy", times.copy},
                                   {"lost", times.lost},
                                   {"waited", times.waited},
                                   {"step_beside", times.step_beside},
                                   {"beside", times.beside},
                                   {"blocking", times.blocking},
                                   {"raw_cached", times.raw_cached},
                                   {"raw_direct", times.raw_direct},
                                   {"load", times.load},
                                   {"load_cached", times.load_cached}};
    fmt::print("{}\n", document.dump());
    return 0;
  }
  fmt::print("{} MiB by {} writer{}, medians of {} rounds in turn\n", bench.bytes() >> 20,
             bench.writers(), bench.writers() == 1 ? "" : "s", arguments.rounds);
  show("write and fsync", times.raw_cached, bench.bytes(), "");
  show("the same past the cache", times.raw_direct, bench.bytes(), "");
  show("a save that training waits for", times.blocking, bench.bytes(), "");
  show("a save beside training", times.beside, bench.bytes(), "");
  show("  its copy to memory", times.copy, bench.bytes(), "");
  const double blocking = engine::median(times.blocking);
  const auto of_blocking = [&](const std::vector<double>& seconds) {
    if (seconds.empty()) return std::string();
    return fmt::format("  {:.1f} % of the one before", 100 * engine::median(seconds) / blocking);
  };
  show("  training waits for it", times.waited, 0, of_blocking(times.waited));
  show("  training loses by it", times.lost, 0, of_blocking(times.lost));
  show("a step", times.step, 0, "");
  show("a step while one is written", times.step_beside, 0, "");
  show("a restart's read", times.load, bench.bytes(), "");
  show("the same from the cache", times.load_cached, bench.bytes(), "");
  return 0;
}

}  // namespace hadal::launch
