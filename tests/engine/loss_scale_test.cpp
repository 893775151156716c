#include "engine/loss_scale.hpp"

#include "tests/support/catch.hpp"

using namespace hadal;
using engine::LossScale;

TEST_CASE("only float16 has a scale, and it follows GradScaler's rule") {
  engine::TrainOptions train;
  REQUIRE(LossScale::first(train).value() == 1);
  train.precision = engine::Precision::float16;
  LossScale scale = LossScale::first(train);
  REQUIRE(scale.value() == 65536);
  for (int step = 0; step < 1999; ++step) scale.count_good();
  REQUIRE(scale.value() == 65536);
  scale.count_good();
  REQUIRE(scale.value() == 131072);
  REQUIRE(scale.good_steps() == 0);
  scale.count_good();
  scale.shrink();
  REQUIRE(scale.value() == 65536);
  // The count begins anew.
  REQUIRE(scale.good_steps() == 0);
  while (scale.can_shrink()) scale.shrink();
  REQUIRE(scale.value() == 1);
}

TEST_CASE("without float16 the scale stays 1") {
  LossScale scale;
  REQUIRE_FALSE(scale.can_shrink());
  for (int step = 0; step < 5000; ++step) scale.count_good();
  REQUIRE(scale.value() == 1);
}
