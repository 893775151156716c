#include "launch/doctor/gpu_report.hpp"

#include <fstream>

#include "tests/support/catch.hpp"

using namespace hadal;
using launch::GpuReport;
using launch::NetworkCard;
using launch::Verdict;

namespace {

namespace fs = std::filesystem;

void put(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text << "\n";
}

void put_port(const fs::path& card, const std::string& link, const std::string& rate, bool up) {
  put(card / "ports/1/link_layer", link);
  put(card / "ports/1/rate", rate);
  put(card / "ports/1/state", up ? "4: ACTIVE" : "1: DOWN");
}

const NetworkCard kFast{.name = "mlx5_0", .link = "InfiniBand", .gigabits = 400, .up = true};

engine::CudaFacts gpu(int of, int capability = 90) {
  return {.name = "H100",
          .capability = capability,
          .bytes = std::size_t{80} << 30,
          .reaches = std::vector<bool>(static_cast<std::size_t>(of), true),
          .linked = std::vector<bool>(static_cast<std::size_t>(of), true)};
}

// Two hosts of two ranks and two GPUs.
std::vector<GpuReport> cluster() {
  std::vector<GpuReport> reports;
  for (const char* host : {"a", "a", "b", "b"}) {
    reports.push_back({.view = {host, {"0:1", "0:2"}, ""},
                       .driver = "580.65.06",
                       .network_reads = true,
                       .gpus = {gpu(2), gpu(2)},
                       .cards = {kFast},
                       .environment = {}});
  }
  return reports;
}

launch::Finding about(const std::vector<GpuReport>& reports, const std::string& what,
                      bool shares = false) {
  for (const launch::Finding& finding : launch::judge_gpus(reports, shares, 80)) {
    if (finding.what == what) return finding;
  }
  FAIL("nothing about " << what);
  return {};
}

}  // namespace

TEST_CASE("network cards are read from the kernel's list") {
  const tests::TemporaryFolder folder;
  const fs::path system = folder.path();
  REQUIRE(launch::network_cards(system).empty());
  REQUIRE(launch::describe({}).empty());
  put_port(system / "class/infiniband/mlx5_0", "InfiniBand", "400 Gb/sec (4X NDR)", true);
  put_port(system / "class/infiniband/mlx5_1", "InfiniBand", "400 Gb/sec (4X NDR)", true);
  put_port(system / "class/infiniband/mlx5_2", "Ethernet", "25 Gb/sec (1X EDR)", true);
  put_port(system / "class/infiniband/mlx5_3", "InfiniBand", "10 Gb/sec", false);
  auto cards = launch::network_cards(system);
  REQUIRE(cards.size() == 4);
  REQUIRE(cards[0].name == "mlx5_0");
  REQUIRE_FALSE(cards[3].up);
  REQUIRE(launch::describe(cards) == "2 x InfiniBand, 400 Gb/s; 1 x RoCE, 25 Gb/s");
  REQUIRE(launch::fabric_settings(cards).empty());

  put(system / "class/cxi/cxi0/device/net/hsn0/speed", "200000");
  put(system / "class/cxi/cxi0/device/net/hsn0/operstate", "up");
  cards = launch::network_cards(system);
  REQUIRE(cards.back().link == "Slingshot");
  REQUIRE(cards.back().gigabits == 200);
  const auto settings = launch::fabric_settings(cards);
  REQUIRE(std::find(settings.begin(), settings.end(),
                    launch::Setting("FI_CXI_DISABLE_HOST_REGISTER", "1")) != settings.end());
  put(system / "class/cxi/cxi0/device/net/hsn0/operstate", "down");
  REQUIRE(launch::fabric_settings(launch::network_cards(system)).empty());
}

TEST_CASE("the driver and what it lets network cards do") {
  const tests::TemporaryFolder folder;
  const fs::path root = folder.path();
  REQUIRE(launch::own_gpu_report("a", root).driver.empty());
  put(root / "proc/driver/nvidia/version",
      "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
      "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)");
  put(root / "proc/sys/kernel/osrelease", "6.1.0-30-amd64");
  auto report = launch::own_gpu_report("a", root);
  REQUIRE(report.driver == "580.65.06");
  REQUIRE(report.network_reads);
  put(root / "proc/sys/kernel/osrelease", "4.18.0-553.el8.x86_64");
  REQUIRE_FALSE(launch::own_gpu_report("a", root).network_reads);
  fs::create_directories(root / "sys/module/nvidia_peermem");
  REQUIRE(launch::own_gpu_report("a", root).network_reads);
  fs::remove_all(root / "sys/module");
  put(root / "proc/driver/nvidia/version",
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024");
  put(root / "proc/sys/kernel/osrelease", "6.1.0-30-amd64");
  report = launch::own_gpu_report("a", root);
  REQUIRE(report.driver == "550.54.15");
  REQUIRE_FALSE(report.network_reads);
}

TEST_CASE("hosts without an NVIDIA driver hear nothing about GPUs") {
  auto reports = cluster();
  for (GpuReport& report : reports) report.driver.clear();
  REQUIRE(launch::judge_gpus(reports, false, 80).empty());
}

TEST_CASE("GPUs that fit are found fit") {
  for (const char* what : {"GPUs", "GPU links", "GPU network"}) {
    CAPTURE(what);
    REQUIRE(about(cluster(), what).verdict == Verdict::ok);
  }
  REQUIRE(tests::contains(about(cluster(), "GPUs").text, "H100, 80 GiB; driver 580.65.06"));
  REQUIRE(tests::contains(about(cluster(), "GPU links").text, "NVLink"));
  REQUIRE(about(cluster(), "GPU network").text ==
          "1 x InfiniBand, 400 Gb/s; cards read GPU memory");
}

TEST_CASE("what slows GPUs down or keeps them from working is found") {
  auto reports = cluster();
  SECTION("a rank without one") {
    reports[1].view = {"a", {}, "the driver is old"};
    reports[1].gpus.clear();
    REQUIRE(
        tests::contains(about(reports, "GPUs").text, "rank 1 on a sees no GPU: the driver is old"));
    REQUIRE(launch::judge_gpus(reports, false, 80).size() == 1);
  }
  SECTION("two ranks on one") {
    for (GpuReport& report : reports) report.view.addresses = {"0:1"};
    REQUIRE(about(reports, "GPUs").verdict == Verdict::warn);
    REQUIRE(about(reports, "GPUs", true).verdict == Verdict::ok);
  }
  SECTION("one that this program has no kernels for") {
    reports[2].gpus = {gpu(2), gpu(2, 70)};
    const auto finding = about(reports, "GPUs");
    REQUIRE(finding.verdict == Verdict::fail);
    REQUIRE(finding.text == "H100 on b has compute capability 7.0, this program begins with 8.0");
  }
  SECTION("several kinds") {
    reports[3].gpus[0].name = "A100";
    REQUIRE(tests::contains(about(reports, "GPUs").text, "several kinds"));
  }
  SECTION("a way on the host that is closed, or slow") {
    reports[3].gpus[1].linked[0] = false;
    REQUIRE(tests::contains(about(reports, "GPU links").text, "at worst by PCI Express"));
    reports[3].gpus[1].reaches[0] = false;
    REQUIRE(about(reports, "GPU links").text ==
            "GPUs 1 and 0 on b do not reach each other's memory");
  }
  SECTION("a card that is down") {
    reports[2].cards[0].up = false;
    REQUIRE(about(reports, "GPU network").text == "mlx5_0 on b is down");
  }
  SECTION("unlike cards") {
    reports[2].cards = {};
    REQUIRE(about(reports, "GPU network").text ==
            "a has 1 x InfiniBand, 400 Gb/s, b has no fast card");
  }
  SECTION("no card at all") {
    for (GpuReport& report : reports) report.cards.clear();
    REQUIRE(about(reports, "GPU network").verdict == Verdict::warn);
    REQUIRE(tests::contains(about(reports, "GPU network").cure, "TCP"));
    // Alone, a host needs none.
    reports.resize(2);
    REQUIRE(about(reports, "GPU network").verdict == Verdict::ok);
  }
  SECTION("cards that must go through the host's memory") {
    reports[2].network_reads = false;
    REQUIRE(
        tests::contains(about(reports, "GPU network").text, "cards on b cannot read GPU memory"));
  }
  SECTION("a switch that is left from debugging") {
    reports[0].environment = {{"NCCL_IB_DISABLE", "1"}};
    REQUIRE(tests::contains(about(reports, "GPU network").cure, "unset NCCL_IB_DISABLE"));
    reports[0].environment = {{"NCCL_IB_DISABLE", "0"}};
    REQUIRE(about(reports, "GPU network").verdict == Verdict::ok);
  }
  SECTION("Slingshot without its plugin") {
    for (GpuReport& report : reports) report.cards = {{"cxi0", "Slingshot", 200, true}};
    REQUIRE(tests::contains(about(reports, "GPU network").cure, "aws-ofi-nccl"));
    reports[0].environment = {{"NCCL_NET", "AWS Libfabric"}};
    REQUIRE(about(reports, "GPU network").verdict == Verdict::ok);
  }
}

TEST_CASE("reports arrive as they were sent, and GPUs of all pairs of hosts exchange messages") {
  engine::run_ranks_as_threads(
      4,
      [](engine::Communicator& comm) {
        const auto reports = launch::gather_gpu_reports(comm);
        const auto device = engine::twin_device();
        const auto messages = engine::connect_devices(comm, *device, {});
        const auto pairs = launch::measure_gpu_pairs(comm, *device, *messages);
        if (comm.rank() != 0) return;
        REQUIRE(reports.size() == 4);
        REQUIRE(reports[3].view.host != reports[0].view.host);
        REQUIRE(pairs.size() == 1);
        REQUIRE(pairs[0].bytes_per_second > 0);
      },
      2);
}
