#include "tests/engine/reduction_check.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "engine/reducer.hpp"
#include "io/sample_order.hpp"

namespace hadal::tests {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

// Of either sign and of many magnitudes, so that another order of additions shows.
float value(std::int64_t leaf, std::size_t element) {
  const std::uint64_t random = io::mix(1, static_cast<std::uint64_t>(leaf), element);
  return std::ldexp(static_cast<float>(random >> 40) / 16777216.0f - 0.5f,
                    static_cast<int>(random % 20));
}

// Between parameters there is padding, which backward never touches.
void fill(const engine::ArenaLayout& layout, std::int64_t leaf, std::span<float> gradient) {
  for (const engine::ArenaEntry& entry : layout.entries()) {
    for (std::int64_t k = entry.offset; k < entry.offset + entry.count; ++k) {
      const auto at = static_cast<std::size_t>(k);
      gradient[at] = value(leaf, at);
    }
  }
}

std::vector<float> sum_alone(const engine::ArenaLayout& layout, const engine::Leaves& leaves) {
  using Values = std::vector<float>;
  engine::CanonicalFold<Values> fold(leaves, {0, leaves.count()}, [](Values a, Values b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  });
  for (std::int64_t m = 0; m < leaves.count(); ++m) {
    if (!leaves.any(m, m + 1)) continue;
    Values gradient(static_cast<std::size_t>(layout.size()));
    fill(layout, m, gradient);
    fold.arrive(m, std::move(gradient));
  }
  return fold.take().begin()->second;
}

// To the nearest, to even where two are as near; of finite values.
float as_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t half = 0x7fffu + (bits >> 16 & 1u);
  return std::bit_cast<float>((bits + half) & 0xffff0000u);
}

// The sum of parts that are rounded to bfloat16, each with what the last call left out of it.
class RoundedSum {
 public:
  RoundedSum(const engine::WireParts& parts, const engine::ArenaLayout& layout,
             const engine::Leaves& leaves)
      : layout_(layout) {
    std::vector<bool> present;
    for (std::int64_t part = 0; part < parts.count; ++part) {
      const std::int64_t begin = part * parts.micro_batches();
      std::vector<bool> inside(static_cast<std::size_t>(leaves.count()), false);
      for (std::int64_t m = begin; m < std::min(begin + parts.micro_batches(), leaves.count()); ++m)
        inside[static_cast<std::size_t>(m)] = leaves.any(m, m + 1);
      const engine::Leaves its(inside);
      present.push_back(its.present() > 0);
      sums_.push_back(present.back() ? sum_alone(layout, its) : std::vector<float>());
      left_out_.emplace_back(static_cast<std::size_t>(layout.size()), 0.0f);
    }
    parts_.emplace(present);
  }

  std::vector<float> next() {
    using Values = std::vector<float>;
    engine::CanonicalFold<Values> fold(*parts_, {0, parts_->count()}, [](Values a, Values b) {
      for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
      return a;
    });
    for (std::size_t part = 0; part < sums_.size(); ++part) {
      Values rounded = sums_[part];
      for (std::size_t i = 0; i < rounded.size(); ++i) {
        const float value = sums_[part][i] + left_out_[part][i];
        rounded[i] = as_bfloat16(value);
        left_out_[part][i] = value - rounded[i];
      }
      if (!rounded.empty()) fold.arrive(static_cast<std::int64_t>(part), std::move(rounded));
    }
    return fold.take().begin()->second;
  }

 private:
  const engine::ArenaLayout& layout_;
  std::vector<std::vector<float>> sums_;      // by part
  std::vector<std::vector<float>> left_out_;  // by part
  std::optional<engine::Leaves> parts_;
};

int buffers_for(const std::vector<engine::Share>& shares, int spare) {
  int most = 1;
  for (const engine::Share& share : shares) {
    most = std::max(most, engine::GradientPool::buffers_for(share, 1 + spare));
  }
  return most;
}

class Reduction {
 public:
  Reduction(engine::Communicator& comm, const std::vector<bool>& present, int spare,
            const std::optional<engine::WireParts>& parts)
      : comm_(comm),
        leaves_(present),
        host_(comm,
              [&](const engine::HostMemory::Hosts& hosts) {
                shares_ = engine::shares_of(std::ssize(present), hosts, parts);
                buffers_ = buffers_for(shares_, spare);
                const std::size_t rounding =
                    parts ? engine::PartRounding::bytes(*parts, shares_, hosts, layout_.size()) : 0;
                return engine::HostMemory::Sizes{
                    .common = arena_bytes() + rounding,
                    .part = engine::GradientPool::bytes(layout_.size(), buffers_)};
              }),
        pool_(host_, layout_.size(), buffers_),
        team_(1),
        rounding_(parts ? std::optional(engine::PartRounding(*parts, shares_, host_,
                                                             host_.common().subspan(arena_bytes()),
                                                             layout_.size()))
                        : std::nullopt),
        reducer_(comm, host_, layout_, pool_, shares_, team_, rounding_ ? &*rounding_ : nullptr),
        expected_(sum_alone(layout_, leaves_)) {
    if (parts) rounded_.emplace(*parts, layout_, leaves_);
    for (int thread = 0; thread <= comm.rank() % 2; ++thread) team_.add();
  }

  void check(bool overlaps) {
    if (rounded_) expected_ = rounded_->next();
    const engine::Share mine = shares_[static_cast<std::size_t>(comm_.rank())];
    engine::StepGradients gradients(pool_, layout_, leaves_, mine,
                                    rounding_ ? &*rounding_ : nullptr);
    const auto compute = [&](int, std::int64_t m) {
      if (!leaves_.any(m, m + 1)) return;
      fill(layout_, m, gradients.begin(m));
      for (std::size_t e = 0; e < layout_.entries().size(); ++e) gradients.arrived(e);
      gradients.end(m);
    };
    std::span<float> sum;
    if (overlaps && reducer_.can_overlap()) {
      engine::ThreadTeam::Running work = team_.start(mine.begin, mine.end, compute);
      sum = reducer_.reduce(gradients, leaves_);
      work.finish();
    } else {
      team_.run(mine.begin, mine.end, compute);
      sum = reducer_.reduce(gradients, leaves_);
    }
    const std::span<float> arena(reinterpret_cast<float*>(host_.common().data()), expected_.size());
    std::size_t square = 0;
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      const engine::ArenaSlice slice = layout_.slice(b, comm_.rank(), comm_.size());
      for (std::size_t k = slice.first_block; k < slice.last_block; ++k, ++square) {
        const engine::ArenaBlock& block = layout_.blocks()[k];
        double squares = 0;
        for (std::int64_t i = block.offset; i < block.offset + block.count; ++i) {
          const float x = sum[static_cast<std::size_t>(i)];
          arena[static_cast<std::size_t>(i)] = x;
          squares += static_cast<double>(x) * static_cast<double>(x);
        }
        require(std::abs(reducer_.squares()[square] - squares) <= 1e-12 * squares,
                "a block's sum of squares is wrong");
      }
    }
    reducer_.gather(arena);
    for (const engine::ArenaBlock& block : layout_.blocks()) {
      for (std::int64_t i = block.offset; i < block.offset + block.count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        require(arena[at] == expected_[at], "the sum has other bits");
      }
    }
    comm_.barrier();  // all have compared before anybody writes again
  }

  // A micro-batch of one rank fails while the reduction waits for it: all come back.
  void check_failure(int culprit) {
    if (!reducer_.can_overlap()) return;
    const engine::Share mine = shares_[static_cast<std::size_t>(comm_.rank())];
    engine::StepGradients gradients(pool_, layout_, leaves_, mine);
    {
      engine::ThreadTeam::Running work =
          team_.start(mine.begin, mine.end, [&](int, std::int64_t m) {
            if (!leaves_.any(m, m + 1)) return;
            fill(layout_, m, gradients.begin(m));
            if (comm_.rank() == culprit) {
              gradients.abandon();
              throw std::runtime_error("failed");
            }
            for (std::size_t e = 0; e < layout_.entries().size(); ++e) gradients.arrived(e);
            gradients.end(m);
          });
      reducer_.reduce(gradients, leaves_);
    }
    comm_.barrier();
  }

 private:
  std::size_t arena_bytes() const {
    return static_cast<std::size_t>(layout_.size()) * sizeof(float);
  }

  engine::Communicator& comm_;
  engine::ArenaLayout layout_{{{"a", {70, 70}}, {"b", {3}}, {"c", {9000}}},
                              engine::ArenaLayout::Holds::trained,
                              {.first = 1000, .later = 3000}};  // four buckets
  engine::Leaves leaves_;
  int buffers_ = 0;
  std::vector<engine::Share> shares_;
  engine::HostMemory host_;
  engine::GradientPool pool_;
  engine::ThreadTeam team_;
  std::optional<engine::PartRounding> rounding_;
  engine::Reducer reducer_;
  std::vector<float> expected_;
  std::optional<RoundedSum> rounded_;
};

}  // namespace

void check_reduction(engine::Communicator& comm, const std::vector<bool>& present) {
  const auto hosts = std::ssize(engine::HostMemory(comm, 0, 0).hosts());
  // With few buffers most is added on the way, with many in the reduction.
  for (const int spare : {0, 100}) {
    Reduction reduction(comm, present, spare, std::nullopt);
    for (const bool overlaps : {false, true, true}) reduction.check(overlaps);
    for (int culprit = 0; culprit < comm.size(); ++culprit) reduction.check_failure(culprit);
    reduction.check(true);
    for (const std::int64_t wire_parts :
         spare == 0 ? std::vector<std::int64_t>{2, 8} : std::vector<std::int64_t>{4}) {
      if (wire_parts > std::ssize(present)) continue;
      const auto parts = engine::wire_parts({.global_batch = std::ssize(present),
                                             .micro_batch = 1,
                                             .wire = engine::Wire::bfloat16,
                                             .wire_parts = wire_parts});
      if (hosts > parts->count) continue;
      Reduction rounded(comm, present, spare, parts);
      for (const bool overlaps : {false, true, true}) rounded.check(overlaps);
    }
  }
}

}  // namespace hadal::tests
