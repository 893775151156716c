#include <fstream>
#include <set>

#include "io/atomic_file.hpp"
#include "launch/cores.hpp"
#include "launch/doctor/network.hpp"
#include "launch/doctor/place.hpp"
#include "launch/doctor/storage.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;
using launch::Verdict;

namespace {

launch::RankPlace place(const std::string& host, std::vector<int> cores) {
  return {.host = host,
          .processor = "p",
          .cores = std::move(cores),
          .memory_bytes = std::int64_t{8} << 30,
          .shared_memory_bytes = std::int64_t{1} << 30,
          .open_files = 65536,
          .locked_bytes = INT64_MAX};
}

const launch::Finding& about(const launch::Findings& findings, const std::string& what) {
  for (const launch::Finding& finding : findings) {
    if (finding.what == what) return finding;
  }
  FAIL("nothing about " << what);
  return findings.front();
}

}  // namespace

TEST_CASE("a fit place is found fit") {
  const auto findings =
      launch::judge_places({place("a", {0, 1}), place("a", {2, 3}), place("b", {0, 1, 2, 3})}, {});
  for (const launch::Finding& finding : findings) {
    CAPTURE(finding.what, finding.text);
    REQUIRE(finding.verdict == Verdict::ok);
    REQUIRE(finding.cure.empty());
  }
  REQUIRE(about(findings, "cores").text == "physical ones: 4 on a, 4 on b");
}

TEST_CASE("each thing that does not fit is found, with a cure") {
  const launch::PlaceWishes wishes{.threads = 2, .shared_memory_per_host = std::int64_t{2} << 30};
  std::vector<launch::RankPlace> places{place("a", {0, 1}), place("a", {0, 1}), place("b", {0, 1})};
  REQUIRE(about(launch::judge_places(places, wishes), "shared memory").verdict == Verdict::warn);
  REQUIRE(tests::contains(about(launch::judge_places(places, wishes), "cores").text, "share them"));

  places[2].cores = {0};
  REQUIRE(about(launch::judge_places(places, wishes), "cores").text ==
          "a rank on b may use 1 physical cores, run.threads wants 2");
  places = {place("a", {0}), place("a", {0})};
  REQUIRE(about(launch::judge_places(places, {}), "cores").verdict == Verdict::fail);
  const std::string other = "q";
  places[1].processor = other;
  REQUIRE(about(launch::judge_places(places, {}), "processor").verdict == Verdict::warn);
  places[1].open_files = 256;
  REQUIRE(about(launch::judge_places(places, {}), "limits").text == "256 open files on a");
  places[0].infiniband = true;
  places[0].locked_bytes = 65536;
  REQUIRE(about(launch::judge_places(places, {}), "limits").text == "64 KiB of locked memory on a");
}

TEST_CASE("every pair of hosts is measured once") {
  for (const int hosts : {1, 2, 3, 4, 5, 6}) {
    engine::run_ranks_as_threads(
        2 * hosts,
        [&](engine::Communicator& comm) {
          const auto pairs = launch::measure_pairs(comm);
          const auto places = launch::gather_places(comm);
          if (comm.rank() != 0) return;
          std::set<std::pair<std::string, std::string>> seen;
          for (const launch::PairSpeed& pair : pairs) {
            REQUIRE(pair.bytes_per_second > 0);
            REQUIRE(seen.insert(std::minmax(pair.first, pair.second)).second);
          }
          REQUIRE(std::ssize(seen) == hosts * (hosts - 1) / 2);
          REQUIRE(std::ssize(places) == 2 * hosts);
          REQUIRE(places.front().host == comm.host());
        },
        2);
  }
}

TEST_CASE("a slow pair and a wrong clock are named") {
  REQUIRE(launch::judge_pairs("network", {{"a", "b", 1e9}, {"a", "c", 1.1e9}, {"b", "c", 0.9e9}})
              .verdict == Verdict::ok);
  const auto slow =
      launch::judge_pairs("network", {{"a", "b", 1e9}, {"a", "c", 0.2e9}, {"b", "c", 0.9e9}});
  REQUIRE(slow.verdict == Verdict::warn);
  REQUIRE(tests::contains(slow.text, "0.20 between a and c"));
  REQUIRE(launch::judge_clocks({{"b", 0.01}, {"c", -0.02}}).verdict == Verdict::ok);
  const auto wrong = launch::judge_clocks({{"b", 0.01}, {"c", -3.0}});
  REQUIRE(wrong.verdict == Verdict::warn);
  REQUIRE(wrong.text == "3.000 s apart at most (c)");
  engine::run_ranks_as_threads(3, [](engine::Communicator& comm) {
    const auto clocks = launch::measure_clocks(comm);
    if (comm.rank() != 0) return;
    // One clock.
    for (const auto& [host, skew] : clocks) REQUIRE(std::abs(skew) < 1.0);
    REQUIRE(clocks.size() == 2);
  });
}

TEST_CASE("a checkpoint folder is tried, and left as it was") {
  const tests::TemporaryFolder folder;
  engine::run_ranks_as_threads(3, [&](engine::Communicator& comm) {
    const auto findings = launch::examine_storage(comm, folder / "run", 1 << 20);
    if (comm.rank() != 0) return;
    for (const launch::Finding& finding : findings) REQUIRE(finding.verdict == Verdict::ok);
    REQUIRE(about(findings, "shared folder").verdict == Verdict::ok);
    REQUIRE(std::filesystem::is_empty(folder / "run"));
    const auto solo = engine::solo_communicator();
    REQUIRE(about(launch::examine_storage(*solo, folder / "run", INT64_MAX), "room").verdict ==
            Verdict::fail);
    std::ofstream(folder / "file") << "x";
    REQUIRE(
        about(launch::examine_storage(*solo, folder / "file", 0), "checkpoint folder").verdict ==
        Verdict::fail);
  });
}
