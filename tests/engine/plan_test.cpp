#include "engine/plan.hpp"

#include <algorithm>

#include "engine/arena.hpp"
#include "engine/canonical_fold.hpp"
#include "engine/glob.hpp"
#include "engine/schedule.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("shares cover all items and the largest is as small as possible") {
  for (std::int64_t items = 1; items < 70; ++items) {
    for (int ranks = 1; ranks <= 12; ++ranks) {
      std::int64_t at = 0, widest = 0;
      for (const engine::Share share : engine::shares(items, ranks)) {
        REQUIRE(share.begin == at);
        at = share.end;
        widest = std::max(widest, share.count());
      }
      REQUIRE(at == items);
      REQUIRE(widest == (items + ranks - 1) / ranks);
    }
  }
  // Aligned shares send one partial sum each.
  const engine::Leaves leaves(std::vector<bool>(24, true));
  for (const engine::Share share : engine::shares(24, 3)) REQUIRE(leaves.nodes(share).size() == 1);
}

TEST_CASE("a plan counts steps, and refuses what cannot be trained") {
  engine::TrainOptions train{
      .length = {2.5, engine::Span::Unit::epochs}, .global_batch = 64, .micro_batch = 8};
  const auto plan = engine::plan_training(train, 1000, 15, 8);
  REQUIRE(plan.micro_batches == 8);
  REQUIRE(plan.steps == 38);
  REQUIRE(plan.evaluate_every_steps == 15);
  const auto refuse = [&](std::int64_t steps, int ranks) {
    return tests::error_of(io::ErrorKind::config,
                           [&] { engine::plan_training(train, 10, steps, ranks); });
  };
  REQUIRE(tests::contains(refuse(0, 1), "an epoch would have 0 steps"));
  REQUIRE(tests::contains(refuse(3, 9), "at most 8 ranks"));
  train.micro_batch = 7;
  REQUIRE(tests::contains(refuse(3, 1), "no multiple"));
}

TEST_CASE("learning rates follow their formulas") {
  using engine::Span;
  engine::ScheduleOptions options{
      .kind = engine::ScheduleKind::cosine, .warmup = {10, Span::Unit::steps}, .floor = 0.1};
  const engine::Schedule cosine(options, 2.0, 110, 50);
  REQUIRE(cosine.lr(0) == Approx(0.2));
  REQUIRE(cosine.lr(9) == Approx(2.0));
  REQUIRE(cosine.lr(10) == Approx(2.0));
  REQUIRE(cosine.lr(60) == Approx(2.0 * 0.55));
  REQUIRE(cosine.lr(110) == Approx(0.2));
  options = {.kind = engine::ScheduleKind::step,
             .milestones = {{1, Span::Unit::epochs}, {80, Span::Unit::steps}},
             .gamma = 0.5};
  const engine::Schedule step(options, 1.0, 100, 50);
  REQUIRE(step.lr(49) == 1.0);
  REQUIRE(step.lr(50) == 0.5);
  REQUIRE(step.lr(80) == 0.25);
  options = {.kind = engine::ScheduleKind::polynomial, .power = 2};
  REQUIRE(engine::Schedule(options, 1.0, 100, 50).lr(50) == Approx(0.25));
  options = {.kind = engine::ScheduleKind::one_cycle};
  const engine::Schedule cycle(options, 1.0, 100, 50);
  REQUIRE(cycle.lr(0) == Approx(1.0 / 25));
  REQUIRE(cycle.lr(30) == Approx(1.0));
  REQUIRE(cycle.lr(100) == Approx(1.0 / 250000));
}

TEST_CASE("globs match whole names") {
  REQUIRE(engine::matches_glob("layer1.*.bias", "layer1.0.bn1.bias"));
  REQUIRE(engine::matches_glob("*", ""));
  REQUIRE(engine::matches_glob("fc.?eight", "fc.weight"));
  REQUIRE_FALSE(engine::matches_glob("fc", "fc.weight"));
  REQUIRE_FALSE(engine::matches_glob("*bias", "bias.weight"));
}

TEST_CASE("slices of the arena cover every bucket and never share a block") {
  const std::vector<engine::ParameterSpec> parameters{
      {"a", {1000, 3000}, {}}, {"b", {17}, {}}, {"c", {5000000}, {}}, {"d", {}, {}}};
  const engine::ArenaLayout layout(parameters, engine::ArenaLayout::Holds::trained);
  REQUIRE(layout.entries().front().name == "d");
  REQUIRE(layout.parameter_count() == 8000018);
  REQUIRE(layout.bucket_count() > 1);
  for (const int ranks : {1, 2, 3, 5, 6, 64, 500}) {
    std::int64_t at = 0;
    std::size_t block = 0;
    std::vector<std::int64_t> owned(static_cast<std::size_t>(ranks), 0);
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      std::vector<engine::ArenaSlice> slices;
      for (int r = 0; r < ranks; ++r) {
        slices.push_back(layout.slice(b, r, ranks));
        owned[static_cast<std::size_t>(r)] += slices.back().count();
      }
      std::sort(slices.begin(), slices.end(), [](const auto& one, const auto& other) {
        return std::pair(one.begin, one.end) < std::pair(other.begin, other.end);
      });
      for (const engine::ArenaSlice& slice : slices) {
        REQUIRE(slice.begin == at);
        REQUIRE(slice.first_block == block);
        REQUIRE(slice.begin % 16 == 0);
        at = slice.end;
        block = slice.last_block;
      }
    }
    REQUIRE(at == layout.size());
    REQUIRE(block == layout.blocks().size());
    // Nobody owns much more than others, though most buckets have fewer blocks than 500.
    REQUIRE(*std::max_element(owned.begin(), owned.end()) <=
            3 * (layout.size() / ranks + 4096) / 2);
  }
}
