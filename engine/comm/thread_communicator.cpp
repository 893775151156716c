#include <algorithm>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "engine/comm/communicator.hpp"
#include "io/error.hpp"
#include "kernels/flush_to_zero.hpp"

namespace hadal::engine {
namespace {

// What the threads of one world share: a mailbox per pair of ranks.
struct World {
  World(int ranks, int per_host)
      : size(ranks), ranks_per_host(per_host), boxes(static_cast<std::size_t>(ranks * ranks)) {}

  std::deque<std::vector<std::byte>>& box(int from, int to) {
    return boxes[static_cast<std::size_t>(from * size + to)];
  }

  int size;
  int ranks_per_host;
  std::mutex mutex;
  std::vector<std::deque<std::vector<std::byte>>> boxes;
  bool broken = false;
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(World& world, int rank) : world_(world), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return world_.size; }
  std::string host() const override {
    return "thread-" + std::to_string(rank_ / world_.ranks_per_host);
  }

  void barrier() override {
    std::vector<std::byte> all(static_cast<std::size_t>(size()));
    const std::byte mine{};
    all_gather(std::span(&mine, 1), all);
  }

  void broadcast(std::span<std::byte> bytes, int root) override {
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    if (rank_ != root) in.push_back({root, bytes});
    for (int r = 0; rank_ == root && r < size(); ++r) {
      if (r != root) out.push_back({r, bytes});
    }
    exchange(out, in);
  }

  void all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
    for (int r = 0; r < size(); ++r) {
      const auto place = all.subspan(static_cast<std::size_t>(r) * mine.size(), mine.size());
      if (r == rank_) {
        if (!mine.empty()) std::memcpy(place.data(), mine.data(), mine.size());
      } else {
        out.push_back({r, mine});
        in.push_back({r, place});
      }
    }
    exchange(out, in);
  }

  void all_reduce(std::span<float> values) override {
    std::vector<std::byte> all(values.size_bytes() * static_cast<std::size_t>(size()));
    all_gather(std::as_bytes(values), all);
    std::fill(values.begin(), values.end(), 0.0f);
    for (std::size_t i = 0; i < values.size() * static_cast<std::size_t>(size()); ++i) {
      float value = 0;
      std::memcpy(&value, all.data() + i * sizeof value, sizeof value);
      values[i % values.size()] += value;
    }
  }

  std::unique_ptr<Exchange> start(std::span<const Outgoing> out,
                                  std::span<const Incoming> in) override {
    const std::lock_guard lock(world_.mutex);
    for (const Outgoing& message : out) {
      world_.box(rank_, message.to).emplace_back(message.bytes.begin(), message.bytes.end());
    }
    return std::make_unique<Receipt>(*this, in);
  }

  void abort(int) override {
    break_world();
    throw io::Error(io::ErrorKind::peer, "aborted");
  }

  void break_world() {
    const std::lock_guard lock(world_.mutex);
    world_.broken = true;
  }

 private:
  // What is still to come for one start().
  class Receipt : public Exchange {
   public:
    Receipt(ThreadCommunicator& comm, std::span<const Incoming> in)
        : comm_(comm), missing_(in.begin(), in.end()) {
      comm_.receipts_.push_back(this);
    }
    ~Receipt() override { std::erase(comm_.receipts_, this); }

    bool done() override {
      comm_.receive();
      return missing_.empty();
    }

   private:
    friend class ThreadCommunicator;
    ThreadCommunicator& comm_;
    std::deque<Incoming> missing_;
  };

  // What was started first is received first.
  void receive() {
    const std::lock_guard lock(world_.mutex);
    if (world_.broken) throw io::Error(io::ErrorKind::peer, "another rank has failed");
    for (Receipt* receipt : receipts_) {
      for (; !receipt->missing_.empty(); receipt->missing_.pop_front()) {
        const Incoming& message = receipt->missing_.front();
        auto& box = world_.box(message.from, rank_);
        if (box.empty()) return;
        if (box.front().size() != message.bytes.size()) {
          throw io::Error(io::ErrorKind::bug,
                          "a message has another size than its receiver expects");
        }
        std::copy(box.front().begin(), box.front().end(), message.bytes.begin());
        box.pop_front();
      }
    }
  }

  World& world_;
  int rank_;
  std::vector<Receipt*> receipts_;
};

}  // namespace

void run_ranks_as_threads(int ranks, const std::function<void(Communicator&)>& body,
                          int ranks_per_host) {
  World world(ranks, ranks_per_host);
  std::mutex mutex;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      kernels::set_flush_to_zero();
      ThreadCommunicator comm(world, rank);
      try {
        body(comm);
      } catch (...) {
        {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
        }
        comm.break_world();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace hadal::engine
