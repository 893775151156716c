#include "io/loader.hpp"

#include <atomic>
#include <stdexcept>

#include "tests/support/catch.hpp"

using namespace hadal;

namespace {

std::vector<io::Batch> batch_of(std::int64_t step) {
  io::Batch batch;
  batch.ids = {step};
  return {batch};
}

}  // namespace

TEST_CASE("steps come in order and never far ahead") {
  std::atomic<std::int64_t> produced{0};
  io::Loader loader(
      [&](std::int64_t step) {
        ++produced;
        return batch_of(step);
      },
      5, 50, 3);
  for (std::int64_t step = 5; step < 50; ++step) {
    REQUIRE(loader.next()[0].ids[0] == step);
    REQUIRE(produced <= step - 5 + 1 + 8);
  }
}

TEST_CASE("a failure arrives with its step, and an unread loader ends") {
  io::Loader loader(
      [](std::int64_t step) {
        if (step == 2) throw std::runtime_error("broken");
        return batch_of(step);
      },
      0, 10, 2);
  REQUIRE(loader.next()[0].ids[0] == 0);
  REQUIRE(loader.next()[0].ids[0] == 1);
  REQUIRE_THROWS_WITH(loader.next(), "broken");
  const io::Loader unread(batch_of, 0, 1000, 2);
}
