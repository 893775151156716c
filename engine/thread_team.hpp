#pragma once
// The threads of a rank that compute. Items of a range are handed out in order to whichever thread
// is free; who computes what changes no bit. Flush-to-zero and the operator threads are set in
// each.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hadal::engine {

// Operator threads of the calling thread; also sets flush-to-zero in each of them.
void set_operator_threads(int threads);

class ThreadTeam {
 public:
  using Body = std::function<void(int thread, std::int64_t item)>;

  // No threads yet; each will have `operator_threads` cores for its operators.
  explicit ThreadTeam(int operator_threads) : operator_threads_(operator_threads) {}
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // One more thread. Not while run() is at work.
  void add();

  // Calls body for every item of [begin, end) and waits. The failure of the lowest item is
  // rethrown.
  void run(std::int64_t begin, std::int64_t end, const Body& body);

  int size() const { return static_cast<int>(threads_.size()); }

 private:
  void work(int thread);

  int operator_threads_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  const Body* body_ = nullptr;
  std::int64_t next_ = 0;
  std::int64_t end_ = 0;
  std::int64_t running_ = 0;
  std::int64_t failed_item_ = 0;
  std::exception_ptr failure_;
  bool stop_ = false;
};

}  // namespace hadal::engine
