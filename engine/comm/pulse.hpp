#pragma once
// Small datagrams between hosts, beside the messages of training: what a watchdog tells when those
// stand still. Lost ones are not missed; where nothing gets through, a watchdog knows its own host
// alone.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/comm/host_memory.hpp"

namespace hadal::engine {

class Pulse {
 public:
  // Collective. The first rank of each host takes part; hosts speak with the first host alone.
  Pulse(Communicator& comm, const HostMemory& memory);

  // Host 0 to all others, another host to host 0. Never waits; on ranks that take no part nothing.
  void send(std::span<const std::byte> bytes) const;
  // Whatever has come since the last call.
  void receive(const std::function<void(int host, std::span<const std::byte> bytes)>& take) const;

 private:
  struct Peer {
    int host = 0;
    std::vector<std::uint32_t> addresses;  // in network order
    std::uint16_t port = 0;                // the same
  };

  int host_;
  std::uint64_t mark_ = 0;  // of this job: strangers' datagrams are passed over
  io::UniqueFd socket_;
  std::vector<Peer> peers_;
};

}  // namespace hadal::engine
