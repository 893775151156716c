#include "launch/run_folder.hpp"

#include <fstream>

#include "io/json.hpp"
#include "launch/ranks.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("a second live run in a folder is refused, a dead one's lock is not") {
  const tests::TemporaryFolder folder;
  {
    const launch::RunFolder owner(folder / "run");
    const std::string error =
        tests::error_of(io::ErrorKind::launch, [&] { launch::RunFolder(folder / "run"); });
    REQUIRE(tests::contains(error, "a live run owns"));
    REQUIRE(tests::contains(error, "process "));
  }
  REQUIRE_NOTHROW(launch::RunFolder(folder / "run"));
}

TEST_CASE("status, exit line and stalls say how an attempt ended") {
  const tests::TemporaryFolder folder;
  const launch::RunFolder run(folder / "run");
  const auto exit_line = [&] { return io::read_file(folder / "run" / "log" / "exit-local"); };
  launch::Status status{
      .state = "failed", .code = 65, .reason = "data", .step = 7, .message = "the cause"};
  run.write_status(status);
  const auto document = io::parse_json(io::read_file(folder / "run" / "status.json"));
  for (const char* field :
       {"attempt", "reason", "state", "code", "step", "steps", "epoch", "message", "rank", "host",
        "phase", "updated", "model", "checkpoint", "metrics"}) {
    REQUIRE(document.contains(field));
  }
  run.write_exit(status, 7);
  REQUIRE(exit_line() == "65 data 7 1\n");
  run.write_exit(status, 7);
  REQUIRE(exit_line() == "65 data 7 2\n");
  status.step = 9;
  run.write_exit(status, 7);
  REQUIRE(exit_line() == "65 data 9 0\n");
}

TEST_CASE("metrics behind the checkpoint are dropped, others kept") {
  const tests::TemporaryFolder folder;
  launch::RunFolder run(folder / "run");
  run.open_metrics(0);
  for (int step = 1; step <= 5; ++step) run.append_metrics({{"kind", "train"}, {"step", step}});
  std::ofstream(folder / "run" / "metrics.jsonl", std::ios::app) << "{\"kind\": \"tra";
  run.open_metrics(3);
  run.append_metrics({{"kind", "train"}, {"step", 4}});
  std::ifstream file(folder / "run" / "metrics.jsonl");
  std::vector<std::int64_t> steps;
  for (std::string line; std::getline(file, line);)
    steps.push_back(io::parse_json(line).at("step"));
  REQUIRE(steps == std::vector<std::int64_t>{1, 2, 3, 4});
}

TEST_CASE("the file STOP is seen") {
  const tests::TemporaryFolder folder;
  const launch::RunFolder run(folder / "run");
  REQUIRE_FALSE(run.stop_requested());
  std::ofstream(folder / "run" / "STOP") << "";
  REQUIRE(run.stop_requested());
}
