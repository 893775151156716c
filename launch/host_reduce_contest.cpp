#include <algorithm>
#include <optional>

#include "engine/optimizer.hpp"
#include "engine/reducer.hpp"
#include "launch/reduce_contest.hpp"

namespace hadal::launch {
namespace {

// One size: the memory of a real step without a model. Every worker of every rank has one gradient
// of whole numbers, so that any order of additions gives one exact sum.
class HostReduceContest : public ReduceContest {
 public:
  HostReduceContest(engine::Communicator& comm, std::int64_t elements, int workers,
                    const engine::OptimizerOptions* options)
      : ReduceContest(comm),
        updates_parameters_(options != nullptr),
        layout_({{"parameters", {elements}}}, engine::ArenaLayout::Holds::trained),
        host_(comm, static_cast<std::size_t>(layout_.size()) * sizeof(float),
              engine::GradientPool::bytes(layout_.size(), workers)),
        pool_(host_, layout_.size(), workers),
        team_(1),
        shares_(engine::shares_of(std::int64_t{comm.size()} * workers, host_.hosts())),
        leaves_(std::vector<bool>(static_cast<std::size_t>(comm.size() * workers), true)),
        reducer_(comm, host_, layout_, pool_, shares_, team_),
        optimizer_(options == nullptr ? engine::OptimizerOptions{} : *options, layout_, comm.rank(),
                   comm.size()) {
    while (team_.size() < workers) team_.add();
  }

  std::vector<Contestant> contestants() override {
    std::vector<Contestant> all{{"canonical", [this] { return canonical(); }},
                                {"fast", [this] { return fast(); }}};
    if (!updates_parameters_) all.push_back({"twin", [this] { return twin(); }});
    return all;
  }

 private:
  double canonical() {
    fill();
    std::span<float> sum;
    const double seconds = timed([&] {
      sum = reducer_.reduce(*gradients_, leaves_);
      if (updates_parameters_) update(sum);
      reducer_.gather(parameters());
    });
    if (!updates_parameters_) check(sum, /*whole=*/false);
    return seconds;
  }

  // The sum by the MPI library, every rank's gradients added up before.
  double fast() {
    fill();
    std::span<float> sum;
    const double seconds = timed([&] {
      if (updates_parameters_) {
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
      comm().all_reduce(sum);
    });
    if (!updates_parameters_) check(sum, /*whole=*/true);
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
        slices.push_back(layout_.slice(b, rank(), ranks()));
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

  std::span<float> parameters() {
    return {reinterpret_cast<float*>(host_.common().data()),
            static_cast<std::size_t>(layout_.size())};
  }

  // New values, as backward leaves them: in no cache of the rank that sums them.
  void fill() {
    const engine::Share mine = shares_[static_cast<std::size_t>(rank())];
    gradients_.reset();
    gradients_.emplace(pool_, layout_, leaves_, mine);
    team_.run(mine.begin, mine.end, [&](int, std::int64_t m) {
      const std::span<float> values = gradients_->begin(m);
      fill_gradient(values, m);
      gradients_->arrived(0);
      gradients_->end(m);
    });
  }

  void update(std::span<const float> gradient) {
    ++updates_;
    team_.run(0, optimizer_.run_count(), [&](int, std::int64_t run) {
      optimizer_.update(run, parameters(), {}, gradient, 1e-3, updates_, 1);
    });
  }

  void check(std::span<const float> sum, bool whole) {
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      count_wrong(sum, whole ? layout_.slice(b, 0, 1) : layout_.slice(b, rank(), ranks()),
                  layout_.parameter_count(), leaves_.count());
    }
  }

  bool updates_parameters_;
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
};

}  // namespace

std::unique_ptr<ReduceContest> host_reduce_contest(engine::Communicator& comm,
                                                   std::int64_t elements, int workers,
                                                   const engine::OptimizerOptions* options) {
  return std::make_unique<HostReduceContest>(comm, elements, workers, options);
}

}  // namespace hadal::launch
