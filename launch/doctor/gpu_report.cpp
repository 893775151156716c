#include "launch/doctor/gpu_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "engine/stopwatch.hpp"
#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Of "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …": the
// first word that is made of numbers and points.
std::string driver_version(const std::string& told) {
  std::istringstream words(told);
  for (std::string word; words >> word;) {
    const bool is_version = word.find('.') != std::string::npos &&
                            word.find_first_not_of("0123456789.") == std::string::npos;
    if (is_version) return word;
  }
  return "";
}

// By a module of its own, or by DMA-BUF: the open driver from Linux 5.12 on (NCCL's manual,
// NCCL_DMABUF_ENABLE).
bool network_may_read(const fs::path& root, const std::string& driver) {
  for (const char* module : {"nvidia_peermem", "nv_peer_mem"}) {
    if (fs::exists(root / "sys/module" / module)) return true;
  }
  int major = 0, minor = 0;
  char point = 0;
  std::istringstream(text_of(root / "proc/sys/kernel/osrelease")) >> major >> point >> minor;
  return driver.find("Open Kernel Module") != std::string::npos &&
         std::pair(major, minor) >= std::pair(5, 12);
}

json to_json(const GpuReport& report) {
  json told{{"host", report.view.host},       {"addresses", report.view.addresses},
            {"trouble", report.view.trouble}, {"driver", report.driver},
            {"reads", report.network_reads},  {"environment", report.environment},
            {"gpus", json::array()},          {"cards", json::array()}};
  for (const engine::CudaFacts& gpu : report.gpus) {
    told["gpus"].push_back({{"name", gpu.name},
                            {"capability", gpu.capability},
                            {"bytes", gpu.bytes},
                            {"reaches", gpu.reaches},
                            {"linked", gpu.linked}});
  }
  for (const NetworkCard& card : report.cards) {
    told["cards"].push_back(
        {{"name", card.name}, {"link", card.link}, {"gigabits", card.gigabits}, {"up", card.up}});
  }
  return told;
}

GpuReport from_json(const json& told) {
  GpuReport report{.view = {told.at("host"), told.at("addresses"), told.at("trouble")},
                   .driver = told.at("driver"),
                   .network_reads = told.at("reads"),
                   .gpus = {},
                   .cards = {},
                   .environment = told.at("environment")};
  for (const json& gpu : told.at("gpus")) {
    report.gpus.push_back({.name = gpu.at("name"),
                           .capability = gpu.at("capability"),
                           .bytes = gpu.at("bytes"),
                           .reaches = gpu.at("reaches"),
                           .linked = gpu.at("linked")});
  }
  for (const json& card : told.at("cards")) {
    report.cards.push_back({.name = card.at("name"),
                            .link = card.at("link"),
                            .gigabits = card.at("gigabits"),
                            .up = card.at("up")});
  }
  return report;
}

// One report a host: its first rank's.
std::vector<const GpuReport*> hosts_of(const std::vector<GpuReport>& reports) {
  std::vector<const GpuReport*> hosts;
  std::set<std::string> seen;
  for (const GpuReport& report : reports) {
    if (seen.insert(report.view.host).second) hosts.push_back(&report);
  }
  return hosts;
}

Finding judge_devices(const std::vector<GpuReport>& reports, bool shares, int oldest) {
  std::vector<GpuView> views;
  std::set<std::string> kinds;
  for (const GpuReport& report : reports) {
    views.push_back(report.view);
    for (const engine::CudaFacts& gpu : report.gpus) {
      kinds.insert(fmt::format("{}, {} GiB", gpu.name, gpu.bytes >> 30));
      if (gpu.capability < oldest) {
        return {Verdict::fail, "GPUs",
                fmt::format("{} on {} has compute capability {}.{}, this program begins with {}.{}",
                            gpu.name, report.view.host, gpu.capability / 10, gpu.capability % 10,
                            oldest / 10, oldest % 10),
                fmt::format("build it with an older CUDA and -DHADAL_CUDA_ARCHITECTURES={}",
                            gpu.capability)};
      }
    }
  }
  try {
    gpus_of(views, shares);
  } catch (const io::Error& error) {
    return {Verdict::warn, "GPUs", error.what(), ""};
  }
  const std::string text = fmt::format("one a rank, {} seen by the first: {}; driver {}, {}",
                                       views.front().addresses.size(), fmt::join(kinds, "; "),
                                       reports.front().driver, engine::cuda_versions());
  if (kinds.size() == 1) return {Verdict::ok, "GPUs", text, ""};
  return {Verdict::warn, "GPUs", "several kinds: " + text,
          "their bits differ: ask for one kind (job.constraint)"};
}

Finding judge_links(const std::vector<GpuReport>& reports) {
  std::string weakest = "NVLink";
  for (const GpuReport& report : reports) {
    for (std::size_t one = 0; one < report.gpus.size(); ++one) {
      for (std::size_t other = 0; other < report.gpus.size(); ++other) {
        if (!report.gpus[one].reaches[other]) {
          return {Verdict::warn, "GPU links",
                  fmt::format("GPUs {} and {} on {} do not reach each other's memory", one, other,
                              report.view.host),
                  "NCCL goes through the host's then: look at the IOMMU and PCI access control "
                  "(ACS), and at what a container may see"};
        }
        if (!report.gpus[one].linked[other]) weakest = "PCI Express";
      }
    }
  }
  return {Verdict::ok, "GPU links", "GPUs of a host reach each other, at worst by " + weakest, ""};
}

std::string card_text(const GpuReport& report) {
  const std::string told = describe(report.cards);
  return told.empty() ? "no fast card" : told;
}

Finding judge_network(const std::vector<GpuReport>& reports) {
  const std::vector<const GpuReport*> hosts = hosts_of(reports);
  std::vector<std::string> told;
  for (const auto& [name, value] : reports.front().environment) {
    told.push_back(fmt::format("{}={}", name, value));
  }
  const std::string cards = card_text(reports.front());
  const bool has_cards = !describe(reports.front().cards).empty();
  const std::string text =
      fmt::format("{}{}{}", cards, told.empty() ? "" : "; ", fmt::join(told, " "));
  for (const GpuReport* host : hosts) {
    for (const NetworkCard& card : host->cards) {
      if (card.up) continue;
      return {Verdict::warn, "GPU network",
              fmt::format("{} on {} is down", card.name, host->view.host),
              "leave the host out, and tell whoever runs it"};
    }
    if (card_text(*host) != cards) {
      return {Verdict::warn, "GPU network",
              fmt::format("{} has {}, {} has {}", hosts.front()->view.host, cards, host->view.host,
                          card_text(*host)),
              "the slowest decides: ask for hosts of one kind (job.constraint)"};
    }
  }
  // Ways that are closed for debugging, and forgotten.
  for (const auto& [name, value] : reports.front().environment) {
    const bool closes = name == "NCCL_P2P_DISABLE" || name == "NCCL_SHM_DISABLE" ||
                        (name == "NCCL_IB_DISABLE" && has_cards);
    if (closes && value != "0") {
      return {Verdict::warn, "GPU network", text, fmt::format("unset {}: it closes a way", name)};
    }
  }
  if (hosts.size() == 1) return {Verdict::ok, "GPU network", text + "; one host", ""};
  if (!has_cards) {
    return {Verdict::warn, "GPU network", text,
            "NCCL uses TCP between hosts; inside a container, let it see /dev/infiniband"};
  }
  for (const GpuReport* host : hosts) {
    if (host->network_reads) continue;
    return {Verdict::warn, "GPU network",
            fmt::format("{}; cards on {} cannot read GPU memory", text, host->view.host),
            "load nvidia_peermem, or take the open driver (GPUDirect RDMA)"};
  }
  const bool slingshot =
      std::any_of(reports.front().cards.begin(), reports.front().cards.end(),
                  [](const NetworkCard& card) { return card.link == "Slingshot"; });
  const auto& environment = reports.front().environment;
  const bool named = std::any_of(environment.begin(), environment.end(),
                                 [](const Setting& s) { return s.first == "NCCL_NET"; });
  if (slingshot && !named) {
    return {Verdict::warn, "GPU network", text,
            "NCCL uses TCP on it: load aws-ofi-nccl (libnccl-net-ofi.so was not found)"};
  }
  return {Verdict::ok, "GPU network", text + "; cards read GPU memory", ""};
}

}  // namespace

GpuReport own_gpu_report(const std::string& host, const fs::path& root) {
  const std::string driver = text_of(root / "proc/driver/nvidia/version");
  GpuReport report{.view = own_gpus(host),
                   .driver = driver_version(driver),
                   .network_reads = network_may_read(root, driver),
                   .gpus = {},
                   .cards = network_cards(root / "sys"),
                   .environment = network_environment()};
  for (int ordinal = 0; ordinal < std::ssize(report.view.addresses); ++ordinal) {
    report.gpus.push_back(engine::cuda_device_facts(ordinal));
  }
  return report;
}

std::vector<GpuReport> gather_gpu_reports(engine::Communicator& comm) {
  std::vector<GpuReport> reports;
  for (const std::string& text :
       engine::all_gather_text(comm, to_json(own_gpu_report(comm.host())).dump())) {
    reports.push_back(from_json(io::parse_json(text)));
  }
  return reports;
}

Findings judge_gpus(const std::vector<GpuReport>& reports, bool shares, int oldest) {
  if (std::all_of(reports.begin(), reports.end(),
                  [](const GpuReport& report) { return report.driver.empty(); })) {
    return {};
  }
  Findings findings{judge_devices(reports, shares, oldest)};
  // Without a GPU for each rank there is nothing to connect.
  if (findings.front().verdict == Verdict::fail ||
      std::any_of(reports.begin(), reports.end(),
                  [](const GpuReport& report) { return report.gpus.empty(); })) {
    return findings;
  }
  findings.push_back(judge_links(reports));
  findings.push_back(judge_network(reports));
  return findings;
}

std::vector<PairSpeed> measure_gpu_pairs(engine::Communicator& comm, engine::Device& device,
                                         engine::DeviceCommunicator& messages) {
  constexpr auto kLane = engine::Device::Lane::reduce;
  constexpr std::size_t kMessage = 64 << 20;
  constexpr int kMessages = 4;
  const engine::Device::Memory sent = messages.allocate(kMessage);
  const engine::Device::Memory received = messages.allocate(kMessage);
  return measure_pairs(comm, [&](int partner) {
    std::vector<engine::Outgoing> out;
    std::vector<engine::Incoming> in;
    if (partner >= 0) {
      out.push_back({partner, {sent.get(), kMessage}});
      in.push_back({partner, {received.get(), kMessage}});
    }
    const auto send = [&] {
      messages.exchange(out, in, kLane);
      device.finish(kLane, [&] { messages.check(); });
    };
    send();
    const engine::Stopwatch watch;
    for (int i = 0; i < kMessages; ++i) send();
    return static_cast<double>(kMessages * kMessage) / watch.seconds();
  });
}

}  // namespace hadal::launch
