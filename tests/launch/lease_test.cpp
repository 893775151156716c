#include "launch/lease.hpp"

#include <fstream>

#include "io/error.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;
using namespace std::chrono_literals;

namespace {

constexpr launch::Lease::Times kQuick{.beat = 50ms, .watch = 400ms};

// As a process of another machine would, over and over where `counts`.
class OtherNode {
 public:
  OtherNode(const std::filesystem::path& folder, bool counts) {
    thread_ = std::thread([this, folder, counts] {
      for (int count = 1; !ends_; count += counts ? 1 : 0) {
        std::ofstream(folder / "lock", std::ios::in | std::ios::out)
            << "process 9 on node7\nanother-kernel other-mark " << count << "  \n"
            << std::flush;
        std::this_thread::sleep_for(20ms);
      }
    });
    std::this_thread::sleep_for(60ms);
  }
  ~OtherNode() {
    ends_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

const auto nobody = [](const std::string&) {};

}  // namespace

TEST_CASE("a run of another node is refused while it counts, and taken over when it does not") {
  const tests::TemporaryFolder folder;
  std::ofstream(folder / "lock") << "";
  {
    const OtherNode other(folder.path(), true);
    const std::string error = tests::error_of(
        io::ErrorKind::launch, [&] { launch::Lease(folder.path(), nobody, kQuick); });
    REQUIRE(tests::contains(error, "a live run owns"));
    REQUIRE(tests::contains(error, "process 9 on node7"));
  }
  // Its last word still stands there.
  {
    const launch::Lease lease(folder.path(), nobody, kQuick);
    REQUIRE(tests::contains(io::read_file(folder / "lock"), "process "));
    REQUIRE_FALSE(tests::contains(io::read_file(folder / "lock"), "node7"));
  }
  REQUIRE(io::read_file(folder / "lock") == "ended\n");
  // Nothing to watch any more.
  const auto begin = std::chrono::steady_clock::now();
  const launch::Lease again(folder.path(), nobody, {.beat = 50ms, .watch = 60'000ms});
  REQUIRE(std::chrono::steady_clock::now() - begin < 30s);
}

TEST_CASE("an owner whose folder another start has taken hears of it") {
  const tests::TemporaryFolder folder;
  std::atomic<bool> lost = false;
  const launch::Lease lease(
      folder.path(), [&](const std::string& owner) { lost = tests::contains(owner, "node7"); },
      kQuick);
  const OtherNode other(folder.path(), true);
  for (int look = 0; look < 500 && !lost; ++look) std::this_thread::sleep_for(10ms);
  REQUIRE(lost);
}
