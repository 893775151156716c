#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/median.hpp"
#include "engine/optimizer.hpp"
#include "engine/reducer.hpp"
#include "engine/stopwatch.hpp"
#include "io/error.hpp"
#include "launch/cores.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {
namespace {

using nlohmann::ordered_json;

// One size: the memory of a real step without a model. Every worker of every rank has one gradient
// of whole numbers, so that any order of additions gives one exact sum.
class ReduceBench {
 public:
  ReduceBench(engine::Communicator& comm, std::int64_t elements, int workers,
              const engine::OptimizerOptions& options)
      : comm_(comm),
        layout_({{"parameters", {elements}}}, engine::ArenaLayout::Holds::trained),
        host_(comm, static_cast<std::size_t>(layout_.size()) * sizeof(float),
              engine::GradientPool::bytes(layout_.size(), workers)),
        pool_(host_, layout_.size(), workers),
        team_(1),
        shares_(engine::shares_of(std::int64_t{comm.size()} * workers, host_.hosts())),
        leaves_(std::vector<bool>(static_cast<std::size_t>(comm.size() * workers), true)),
        reducer_(comm, host_, layout_, pool_, shares_, team_),
        optimizer_(options, layout_, comm.rank(), comm.size()) {
    while (team_.size() < workers) team_.add();
  }

  // Seconds of the slowest rank.
  double canonical(bool updates) {
    fill();
    std::span<float> sum;
    const double seconds = timed([&] {
      sum = reducer_.reduce(*gradients_, leaves_);
      if (updates) update(sum);
      reducer_.gather(parameters());
    });
    if (!updates) check(sum, /*whole=*/false);
    return seconds;
  }

  // The sum by the MPI library, every rank's gradients added up before.
  double fast(bool updates) {
    fill();
    std::span<float> sum;
    const double seconds = timed([&] {
      if (updates) {
        sum = reducer_.reduce_fast(*gradients_);
        update(sum);
        reducer_.gather(parameters());
        return;
      }
      // The library's call alone, without the norm that a step needs as well.
      sum = gradients_->result();
      for (auto& [node, buffer] : gradients_->nodes()) {
        if (buffer.span().data() != sum.data()) kernels::add_into(sum, buffer.span());
      }
      comm_.all_reduce(sum);
    });
    if (!updates) check(sum, /*whole=*/true);
    return seconds;
  }

  // What canonical() reads and writes, by each rank for itself: neither waiting nor order.
  double twin() {
    fill();
    gradients_->publish();
    host_.barrier();
    const std::vector<engine::GradientSource> sources = pool_.published().value();
    const double seconds = timed([&] {
      float* const sum = gradients_->result().data();
      std::vector<engine::ArenaSlice> slices;
      for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
        slices.push_back(layout_.slice(b, comm_.rank(), comm_.size()));
      }
      constexpr std::int64_t kPiece = 1 << 14;
      for (const engine::ArenaSlice& slice : slices) {
        team_.run(0, (slice.count() + kPiece - 1) / kPiece, [&](int, std::int64_t piece) {
          const std::int64_t begin = slice.begin + piece * kPiece;
          const auto count = static_cast<std::size_t>(std::min(kPiece, slice.end - begin));
          for (const engine::GradientSource& source : sources) {
            if (source.values != sum)
              kernels::add_into({sum + begin, count}, {source.values + begin, count});
          }
        });
      }
    });
    host_.barrier();
    return seconds;
  }

  std::int64_t wrong() {
    std::int64_t all = 0;
    for (const std::string& theirs : engine::all_gather_text(comm_, std::to_string(wrong_)))
      all += std::stoll(theirs);
    return all;
  }

 private:
  std::span<float> parameters() {
    return {reinterpret_cast<float*>(host_.common().data()),
            static_cast<std::size_t>(layout_.size())};
  }

  // New values, as backward leaves them: in no cache of the rank that sums them.
  void fill() {
    const engine::Share mine = shares_[static_cast<std::size_t>(comm_.rank())];
    gradients_.reset();
    gradients_.emplace(pool_, layout_, leaves_, mine);
    team_.run(mine.begin, mine.end, [&](int, std::int64_t m) {
      const std::span<float> values = gradients_->begin(m);
      for (std::size_t k = 0; k < values.size(); ++k) {
        values[k] = static_cast<float>(k % 251) + static_cast<float>(m);
      }
      gradients_->arrived(0);
      gradients_->end(m);
    });
  }

  template <class Body>
  double timed(Body body) {
    comm_.barrier();
    const engine::Stopwatch watch;
    body();
    const double seconds = watch.seconds();
    double slowest = 0;
    std::vector<double> all(static_cast<std::size_t>(comm_.size()));
    comm_.all_gather(std::as_bytes(std::span(&seconds, 1)), std::as_writable_bytes(std::span(all)));
    for (const double each : all) slowest = std::max(slowest, each);
    return slowest;
  }

  void update(std::span<const float> gradient) {
    ++updates_;
    team_.run(0, optimizer_.run_count(), [&](int, std::int64_t run) {
      optimizer_.update(run, parameters(), {}, gradient, 1e-3, updates_, 1);
    });
  }

  void check(std::span<const float> sum, bool whole) {
    const std::int64_t v = leaves_.count();
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      const engine::ArenaSlice slice =
          whole ? layout_.slice(b, 0, 1) : layout_.slice(b, comm_.rank(), comm_.size());
      for (std::int64_t i = slice.begin; i < std::min(slice.end, layout_.parameter_count()); ++i) {
        const auto expected = static_cast<float>(v * (i % 251) + v * (v - 1) / 2);
        if (sum[static_cast<std::size_t>(i)] != expected) ++wrong_;
      }
    }
  }

  engine::Communicator& comm_;
  engine::ArenaLayout layout_;
  engine::HostMemory host_;
  engine::GradientPool pool_;
  engine::ThreadTeam team_;
  std::vector<engine::Share> shares_;
  engine::Leaves leaves_;
  engine::Reducer reducer_;
  std::optional<engine::StepGradients> gradients_;
  engine::Optimizer optimizer_;
  std::int64_t updates_ = 0;
  std::int64_t wrong_ = 0;
};

}  // namespace

int bench_reduce(const BenchReduceArguments& arguments, engine::Communicator& comm) {
  const int workers = std::max(1, arguments.workers);
  const bool updates = arguments.optimizer != "none";
  const engine::OptimizerOptions options{.kind = arguments.optimizer == "sgd"
                                                     ? engine::OptimizerKind::sgd
                                                     : engine::OptimizerKind::adamw,
                                         .momentum = 0.9,
                                         .weight_decay = 0.01};
  ordered_json rows = ordered_json::array();
  if (comm.rank() == 0 && !arguments.json) {
    fmt::print("# {} x {} worker{}; float32 sum{}; out of place; medians of {} rounds\n",
               describe_hosts(comm), workers, workers == 1 ? "" : "s",
               updates ? ", then " + arguments.optimizer : "", arguments.rounds);
  } else if (comm.rank() != 0 && !arguments.json) {
    static_cast<void>(describe_hosts(comm));
  }
  if (comm.rank() == 0 && !arguments.json) {
    fmt::print("# {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7}\n", "size (B)",
               "count", "order", "time (us)", "min", "max", "algbw GB/s", "busbw GB/s", "#wrong");
  }
  for (const std::int64_t bytes : arguments.sizes) {
    ReduceBench bench(comm, std::max<std::int64_t>(bytes / 4, 1), workers, options);
    std::vector<std::pair<std::string, std::function<double()>>> contestants = {
        {"canonical", [&] { return bench.canonical(updates); }},
        {"fast", [&] { return bench.fast(updates); }}};
    if (!updates) contestants.emplace_back("twin", [&] { return bench.twin(); });
    std::vector<std::vector<double>> seconds(contestants.size());
    for (int round = -2; round < arguments.rounds; ++round) {
      for (std::size_t c = 0; c < contestants.size(); ++c) {
        const double taken = contestants[c].second();
        if (round >= 0) seconds[c].push_back(taken);
      }
    }
    const std::int64_t wrong = bench.wrong();
    if (comm.rank() != 0) continue;
    const auto size = static_cast<double>(bytes);
    const double ranks = comm.size();
    for (std::size_t c = 0; c < contestants.size(); ++c) {
      const double typical = engine::median(seconds[c]);
      const auto [least, most] = std::minmax_element(seconds[c].begin(), seconds[c].end());
      // nccl-tests' terms: an all-reduce moves 2 (n - 1) / n of its size over each rank's link.
      const double algorithm = size / typical / 1e9;
      const double bus = algorithm * 2 * (ranks - 1) / ranks;
      if (arguments.json) {
        rows.push_back({{"bytes", bytes},
                        {"order", contestants[c].first},
                        {"optimizer", arguments.optimizer},
                        {"seconds", typical},
                        {"seconds_min", *least},
                        {"seconds_max", *most},
                        {"all_seconds", seconds[c]},
                        {"algorithm_bandwidth", algorithm * 1e9},
                        {"bus_bandwidth", bus * 1e9},
                        {"wrong", wrong}});
      } else {
        fmt::print(
            "  {:>12} {:>12} {:>10} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.2f} {:>10.2f} {:>7}\n",
            bytes, bytes / 4, contestants[c].first, 1e6 * typical, 1e6 * *least, 1e6 * *most,
            algorithm, bus, contestants[c].first == "twin" ? "-" : std::to_string(wrong));
      }
    }
  }
  if (comm.rank() == 0 && arguments.json) fmt::print("{}\n", rows.dump());
  return 0;
}

}  // namespace hadal::launch
