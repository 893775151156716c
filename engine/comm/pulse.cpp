#include "engine/comm/pulse.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <random>
#include <sstream>

namespace hadal::engine {
namespace {

constexpr std::size_t kMostBytes = 60'000;

struct Head {
  std::uint64_t mark = 0;
  std::int32_t host = 0;
  std::int32_t padding = 0;
};

// Of this machine, in network order; other hosts find it under one of them.
std::vector<std::uint32_t> own_addresses() {
  std::vector<std::uint32_t> found, loopback;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return found;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_UP) == 0) continue;
    sockaddr_in address{};
    std::memcpy(&address, each->ifa_addr, sizeof address);
    const bool is_loopback = (each->ifa_flags & IFF_LOOPBACK) != 0;
    (is_loopback ? loopback : found).push_back(address.sin_addr.s_addr);
  }
  ::freeifaddrs(list);
  return found.empty() ? loopback : found;
}

}  // namespace

Pulse::Pulse(Communicator& comm, const HostMemory& memory) : host_(memory.host()) {
  std::string mine;
  if (memory.rank() == 0) {
    socket_ = io::UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t size = sizeof address;
    if (socket_ &&
        ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      mine = fmt::format("{} {}", host_, address.sin_port);
      for (const std::uint32_t own : own_addresses()) mine += fmt::format(" {}", own);
    }
  }
  std::random_device device;
  mark_ = (std::uint64_t{device()} << 32) | device();
  comm.broadcast(std::as_writable_bytes(std::span(&mark_, 1)), 0);
  for (const std::string& text : all_gather_text(comm, mine)) {
    std::istringstream words(text);
    Peer peer;
    if (!(words >> peer.host >> peer.port)) continue;
    for (std::uint32_t address = 0; words >> address;) peer.addresses.push_back(address);
    if (peer.host != host_ && (host_ == 0 || peer.host == 0)) peers_.push_back(peer);
  }
}

void Pulse::send(std::span<const std::byte> bytes) const {
  if (!socket_) return;
  const Head head{.mark = mark_, .host = host_};
  std::vector<std::byte> message(sizeof head + std::min(bytes.size(), kMostBytes));
  std::memcpy(message.data(), &head, sizeof head);
  std::memcpy(message.data() + sizeof head, bytes.data(), message.size() - sizeof head);
  for (const Peer& peer : peers_) {
    for (const std::uint32_t address : peer.addresses) {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = peer.port;
      to.sin_addr.s_addr = address;
      // One that gets lost is followed by another.
      static_cast<void>(::sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                                 reinterpret_cast<const sockaddr*>(&to), sizeof to));
    }
  }
}

void Pulse::receive(
    const std::function<void(int host, std::span<const std::byte> bytes)>& take) const {
  if (!socket_) return;
  std::array<std::byte, sizeof(Head) + kMostBytes> memory;
  for (;;) {
    const ssize_t size = ::recv(socket_.get(), memory.data(), memory.size(), 0);
    if (size < 0) return;
    Head head;
    if (size < static_cast<ssize_t>(sizeof head)) continue;
    std::memcpy(&head, memory.data(), sizeof head);
    if (head.mark != mark_ || head.host == host_) continue;
    take(head.host, std::span(memory).first(static_cast<std::size_t>(size)).subspan(sizeof head));
  }
}

}  // namespace hadal::engine
