#include "engine/comm/communicator.hpp"

#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "engine/comm/polling.hpp"

namespace hadal::engine {
namespace {

class NoExchange : public Exchange {
 public:
  bool done() override { return true; }
};

class SoloCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string host() const override {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    return name;
  }
  void barrier() override {}
  void broadcast(std::span<std::byte>, int) override {}
  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    if (!mine.empty()) std::memcpy(all.data(), mine.data(), mine.size());
  }
  void all_reduce(std::span<float>) override {}
  std::unique_ptr<Exchange> start(std::span<const Outgoing>, std::span<const Incoming>) override {
    return std::make_unique<NoExchange>();
  }
  void abort(int exit_code) override { std::_Exit(exit_code); }
};

}  // namespace

std::unique_ptr<Communicator> solo_communicator() { return std::make_unique<SoloCommunicator>(); }

void Communicator::exchange(std::span<const Outgoing> out, std::span<const Incoming> in) {
  const std::unique_ptr<Exchange> exchange = start(out, in);
  poll_until([&] { return exchange->done(); });
}

std::vector<std::string> all_gather_text(Communicator& comm, const std::string& mine) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const std::uint64_t length = mine.size();
  std::vector<std::uint64_t> lengths(ranks);
  comm.all_gather(std::as_bytes(std::span(&length, 1)), std::as_writable_bytes(std::span(lengths)));
  std::vector<std::string> all(ranks);
  std::vector<Outgoing> out;
  std::vector<Incoming> in;
  for (std::size_t r = 0; r < ranks; ++r) {
    if (static_cast<int>(r) == comm.rank()) {
      all[r] = mine;
      continue;
    }
    all[r].resize(lengths[r]);
    out.push_back({static_cast<int>(r), std::as_bytes(std::span(mine))});
    in.push_back({static_cast<int>(r), std::as_writable_bytes(std::span(all[r]))});
  }
  comm.exchange(out, in);
  return all;
}

std::string broadcast_text(Communicator& comm, const std::string& text, int root) {
  std::uint64_t length = text.size();
  comm.broadcast(std::as_writable_bytes(std::span(&length, 1)), root);
  std::string copy = text;
  copy.resize(length);
  comm.broadcast(std::as_writable_bytes(std::span(copy)), root);
  return copy;
}

}  // namespace hadal::engine
