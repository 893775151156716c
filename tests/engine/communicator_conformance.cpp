#include "tests/engine/communicator_conformance.hpp"

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>

#include "engine/comm/collectively.hpp"
#include "engine/comm/host_memory.hpp"

namespace hadal::tests {
namespace {

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what);
}

std::vector<int> numbers(int rank, int count) {
  std::vector<int> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1000 * rank);
  return values;
}

void check_broadcast(engine::Communicator& comm) {
  for (int root = 0; root < comm.size(); ++root) {
    std::vector<int> values = numbers(comm.rank() == root ? 7 : comm.rank() + 50, 100000);
    comm.broadcast(std::as_writable_bytes(std::span(values)), root);
    require(values == numbers(7, 100000), "broadcast gives another value");
  }
}

void check_all_reduce(engine::Communicator& comm) {
  for (const std::size_t count : {1, 70000}) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(i % 1000) + static_cast<float>(comm.rank());
    }
    comm.all_reduce(values);
    const int ranks = comm.size();
    for (std::size_t i = 0; i < count; ++i) {
      const auto sum =
          static_cast<float>(ranks * static_cast<int>(i % 1000) + ranks * (ranks - 1) / 2);
      require(values[i] == sum, "all_reduce gives another sum");
    }
  }
}

void check_all_gather(engine::Communicator& comm) {
  for (const int count : {0, 1, 4097}) {
    const std::vector<int> mine = numbers(comm.rank(), count);
    std::vector<int> all(static_cast<std::size_t>(count * comm.size()), -1);
    comm.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
    for (int r = 0; r < comm.size(); ++r) {
      const auto begin = all.begin() + r * count;
      require(std::vector<int>(begin, begin + count) == numbers(r, count),
              "all_gather is out of order");
    }
  }
}

// Several messages a pair, of different sizes, some empty, some above the eager limit of any
// library.
void check_exchange(engine::Communicator& comm) {
  const std::vector<int> sizes{0, 1, 300000, 17};
  const auto content = [](int from, int to, int size) { return numbers(from * 31 + to, size); };
  std::vector<std::vector<int>> sent, received;
  for (int peer = 0; peer < comm.size(); ++peer) {
    for (const int size : sizes) {
      sent.push_back(content(comm.rank(), peer, size));
      received.emplace_back(static_cast<std::size_t>(size), -1);
    }
  }
  std::vector<engine::Outgoing> out;
  std::vector<engine::Incoming> in;
  for (int peer = 0; peer < comm.size(); ++peer) {
    for (std::size_t s = 0; s < sizes.size() && peer != comm.rank(); ++s) {
      const std::size_t i = static_cast<std::size_t>(peer) * sizes.size() + s;
      out.push_back({peer, std::as_bytes(std::span(sent[i]))});
      in.push_back({peer, std::as_writable_bytes(std::span(received[i]))});
    }
  }
  comm.exchange(out, in);
  for (int peer = 0; peer < comm.size(); ++peer) {
    for (std::size_t s = 0; s < sizes.size() && peer != comm.rank(); ++s) {
      require(received[static_cast<std::size_t>(peer) * sizes.size() + s] ==
                  content(peer, comm.rank(), sizes[s]),
              "exchange mixes messages up");
    }
  }
}

void check_text(engine::Communicator& comm) {
  const auto text = [](int rank) {
    return std::string(static_cast<std::size_t>(rank) * 1000, 'a');
  };
  const auto all = engine::all_gather_text(comm, text(comm.rank()));
  for (int r = 0; r < comm.size(); ++r) {
    require(all[static_cast<std::size_t>(r)] == text(r), "all_gather_text gives another text");
  }
  const int last = comm.size() - 1;
  require(engine::broadcast_text(comm, comm.rank() == last ? "from the last" : "", last) ==
              "from the last",
          "broadcast_text gives another text");
}

// One rank fails: all throw its error, and nobody a peer's.
void check_agreement(engine::Communicator& comm) {
  for (int culprit = 0; culprit < comm.size(); ++culprit) {
    std::string message;
    try {
      engine::run_collectively(comm, "testing", [&] {
        if (comm.rank() == culprit) throw io::Error(io::ErrorKind::data, "the cause");
        if (comm.rank() == (culprit + 1) % comm.size()) {
          throw io::Error(io::ErrorKind::peer, "a victim");
        }
      });
    } catch (const engine::AgreedError& error) {
      message = error.what();
      require(error.kind() == io::ErrorKind::data, "the agreed kind is not the cause's");
    }
    require(message.starts_with("the cause"), "the agreed error is not the cause: " + message);
  }
  engine::run_collectively(comm, "testing", [] {});
}

}  // namespace

void check_communicator(engine::Communicator& comm) {
  comm.barrier();
  check_broadcast(comm);
  check_all_reduce(comm);
  check_all_gather(comm);
  check_exchange(comm);
  check_text(comm);
  check_agreement(comm);
  check_host_memory(comm, true);
  comm.barrier();
}

void check_host_memory(engine::Communicator& comm, bool shares) {
  const std::vector<std::string> names = engine::all_gather_text(comm, comm.host());
  const auto neighbours =
      std::count(names.begin(), names.end(), names[static_cast<std::size_t>(comm.rank())]);
  // Parts of different sizes: the largest counts.
  engine::HostMemory host(comm, 5000, 5000 * static_cast<std::size_t>(comm.rank() + 1));
  const std::set<std::string> different(names.begin(), names.end());
  require(host.hosts().size() == (shares ? different.size() : names.size()), "other hosts");
  require(host.size() == (shares ? neighbours : 1), "another number of ranks on the host");
  for (int round = 1; round <= 200; ++round) {
    const auto mark = [&](int rank) { return static_cast<std::byte>(round + rank); };
    host.part(host.rank()).front() = mark(host.rank());
    require(host.part(host.rank()).size() >= 5000 * static_cast<std::size_t>(comm.size()),
            "a part is too small");
    if (host.rank() == 0) host.common()[4999] = mark(0);
    host.barrier();
    for (int r = 0; r < host.size(); ++r) {
      require(host.part(r).front() == mark(r), "a part of the host's memory is old");
    }
    require(host.common()[4999] == mark(0), "the host's common memory is old");
    host.barrier();
  }
}

}  // namespace hadal::tests
