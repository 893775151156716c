#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/comm/collectively.hpp"
#include "engine/median.hpp"
#include "io/error.hpp"
#include "launch/cores.hpp"
#include "launch/gpus.hpp"
#include "launch/reduce_contest.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

using nlohmann::ordered_json;

int bench_reduce(const BenchReduceArguments& arguments, engine::Communicator& comm) {
  engine::RunOptions run;
  run.device = device_wish(arguments.device);
  run.share_gpus = arguments.share_gpus;
  engine::DeviceChoice choice;
  std::unique_ptr<engine::Device> device;
  engine::run_collectively(comm, "looking at the host", [&] { choice = choose_device(comm, run); });
  engine::run_collectively(comm, "opening the devices", [&] {
    device = engine::open_device(choice, {});
    if (device && (arguments.optimizer != "none" || arguments.workers > 1)) {
      throw io::Error(io::ErrorKind::usage,
                      "--optimizer and --workers are for the CPU; add --device cpu");
    }
  });
  std::unique_ptr<engine::DeviceCommunicator> messages;
  if (device)
    messages = engine::connect_devices(comm, *device, {.timeout = run.collective_timeout});
  const int workers = std::max(1, arguments.workers);
  const bool updates = arguments.optimizer != "none";
  const engine::OptimizerOptions options{.kind = arguments.optimizer == "sgd"
                                                     ? engine::OptimizerKind::sgd
                                                     : engine::OptimizerKind::adamw,
                                         .momentum = 0.9,
                                         .weight_decay = 0.01};
  int code = 0;
  ordered_json rows = ordered_json::array();
  if (comm.rank() == 0 && !arguments.json) {
    fmt::print("# {} x {} worker{}{}; float32 sum{}; {} place; medians of {} rounds\n",
               describe_hosts(comm), workers, workers == 1 ? "" : "s",
               device ? fmt::format(", {}, {}", device->name(), messages->name()) : "",
               updates ? ", then " + arguments.optimizer : "", device ? "in" : "out of",
               arguments.rounds);
  } else if (comm.rank() != 0 && !arguments.json) {
    static_cast<void>(describe_hosts(comm));
  }
  if (comm.rank() == 0 && !arguments.json) {
    fmt::print("# {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>7}\n", "size (B)",
               "count", "order", "time (us)", "min", "max", "algbw GB/s", "busbw GB/s", "#wrong");
  }
  for (const std::int64_t bytes : arguments.sizes) {
    const std::int64_t elements = std::max<std::int64_t>(bytes / 4, 1);
    const std::unique_ptr<ReduceContest> contest =
        device ? device_reduce_contest(comm, *device, *messages, elements)
               : host_reduce_contest(comm, elements, workers, updates ? &options : nullptr);
    const std::vector<ReduceContest::Contestant> contestants = contest->contestants();
    std::vector<std::vector<double>> seconds(contestants.size());
    for (int round = -2; round < arguments.rounds; ++round) {
      for (std::size_t c = 0; c < contestants.size(); ++c) {
        const double taken = contestants[c].run();
        if (round >= 0) seconds[c].push_back(taken);
      }
    }
    const std::int64_t wrong = contest->wrong();
    if (wrong > 0) code = static_cast<int>(io::ErrorKind::bug);
    if (comm.rank() != 0) continue;
    const auto size = static_cast<double>(bytes);
    const double ranks = comm.size();
    for (std::size_t c = 0; c < contestants.size(); ++c) {
      const double typical = engine::median(seconds[c]);
      const auto [least, most] = std::minmax_element(seconds[c].begin(), seconds[c].end());
      // nccl-tests' terms: an all-reduce moves 2 (n - 1) / n of its size over each rank's link.
      const double algorithm = size / typical / 1e9;
      const double bus = algorithm * 2 * (ranks - 1) / ranks;
      if (arguments.json) {
        rows.push_back({{"bytes", bytes},
                        {"order", contestants[c].name},
                        {"optimizer", arguments.optimizer},
                        {"device", engine::name_of(choice.kind)},
                        {"seconds", typical},
                        {"seconds_min", *least},
                        {"seconds_max", *most},
                        {"all_seconds", seconds[c]},
                        {"algorithm_bandwidth", algorithm * 1e9},
                        {"bus_bandwidth", bus * 1e9},
                        {"wrong", wrong}});
      } else {
        fmt::print(
            "  {:>12} {:>12} {:>10} {:>10.1f} {:>10.1f} {:>10.1f} {:>10.2f} {:>10.2f} {:>7}\n",
            bytes, bytes / 4, contestants[c].name, 1e6 * typical, 1e6 * *least, 1e6 * *most,
            algorithm, bus, contestants[c].name == "twin" ? "-" : std::to_string(wrong));
      }
    }
  }
  if (comm.rank() == 0 && arguments.json) fmt::print("{}\n", rows.dump());
  return code;
}

}  // namespace hadal::launch
