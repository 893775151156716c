#include "launch/gpus.hpp"

#include "tests/support/catch.hpp"

using namespace hadal;
using launch::GpuView;

namespace {

std::vector<int> chosen(const std::vector<GpuView>& ranks, bool shares = false) {
  return launch::gpus_of(ranks, shares);
}

std::string refusal(const std::vector<GpuView>& ranks, bool shares = false) {
  return tests::error_of(io::ErrorKind::launch, [&] { launch::gpus_of(ranks, shares); });
}

}  // namespace

TEST_CASE("every rank has a GPU of its own, whatever the scheduler shows") {
  const std::vector<std::string> four{"0:1", "0:2", "0:3", "0:4"};
  SECTION("all of a host's to every rank") {
    REQUIRE(chosen({{"a", four, ""}, {"a", four, ""}, {"b", four, ""}, {"a", four, ""}}) ==
            std::vector<int>{0, 1, 0, 2});
  }
  SECTION("to each its own") {
    REQUIRE(chosen({{"a", {"0:3"}, ""}, {"a", {"0:1"}, ""}, {"b", {"0:3"}, ""}}) ==
            std::vector<int>{0, 0, 0});
  }
  SECTION("one rank of many GPUs takes the first") {
    REQUIRE(chosen({{"a", four, ""}}) == std::vector<int>{0});
  }
}

TEST_CASE("two ranks do not share a GPU unless they are told to") {
  const std::vector<GpuView> three{
      {"a", {"0:1", "0:2"}, ""}, {"a", {"0:1", "0:2"}, ""}, {"a", {"0:1", "0:2"}, ""}};
  const std::string message = refusal(three);
  REQUIRE(tests::contains(message, "ranks 0 and 2 on a would compute on one GPU (0:1)"));
  REQUIRE(tests::contains(message, "run.share_gpus"));
  REQUIRE(chosen(three, true) == std::vector<int>{0, 1, 0});
  // Every task was shown the same one.
  REQUIRE(tests::contains(refusal({{"a", {"0:1"}, ""}, {"a", {"0:1"}, ""}}), "one GPU (0:1)"));
}

TEST_CASE("a rank without a GPU is named, with the reason") {
  const std::string message = refusal({{"a", {"0:1"}, ""}, {"b", {}, "there is no NVIDIA driver"}});
  REQUIRE(tests::contains(message, "rank 1 on b sees no GPU: there is no NVIDIA driver"));
}
