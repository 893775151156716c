#include "engine/comm/pulse.hpp"

#include <map>
#include <mutex>
#include <thread>

#include "tests/support/catch.hpp"

using namespace hadal;

TEST_CASE("hosts hear from each other, and strangers are passed over") {
  std::mutex mutex;
  std::map<int, std::map<int, std::string>> heard;  // by host that hears, by host that speaks
  engine::run_ranks_as_threads(
      6,
      [&](engine::Communicator& comm) {
        const engine::HostMemory memory(comm, 64, 0);
        const engine::Pulse pulse(comm, memory);
        const engine::Pulse other_job(comm, memory);
        const std::string text = "from " + std::to_string(memory.host());
        for (int round = 0; round < 100; ++round) {
          pulse.send(std::as_bytes(std::span(text)));
          other_job.send(std::as_bytes(std::span("stranger")));
          pulse.receive([&](int host, std::span<const std::byte> bytes) {
            const std::lock_guard lock(mutex);
            heard[memory.host()][host] =
                std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          });
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        comm.barrier();
      },
      2);
  const std::map<int, std::map<int, std::string>> expected{
      {0, {{1, "from 1"}, {2, "from 2"}}}, {1, {{0, "from 0"}}}, {2, {{0, "from 0"}}}};
  REQUIRE(heard == expected);
}
