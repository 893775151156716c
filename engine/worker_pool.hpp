#pragma once
// The workers of a rank as threads. Items of a range are handed out in order to whichever worker is
// free; who computes what changes no bit. Flush-to-zero and the operator threads are set in each.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/worker.hpp"

namespace hadal::engine {

class WorkerPool {
 public:
  using Make = std::function<std::unique_ptr<Worker>()>;
  using Body = std::function<void(Worker&, std::int64_t item)>;

  // One worker, with `threads` cores for the operators of each.
  WorkerPool(int threads, Make make);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Adds workers until there are `workers`. Not while run() is at work.
  void grow(int workers);

  // Calls body for every item of [begin, end) and waits. The failure of the lowest item is
  // rethrown.
  void run(std::int64_t begin, std::int64_t end, const Body& body);

  int size() const { return static_cast<int>(threads_.size()); }

 private:
  void work(Worker& worker);

  int operator_threads_;
  Make make_;
  std::vector<std::unique_ptr<Worker>> workers_;
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

// Operator threads of the calling thread; also sets flush-to-zero in each of them.
void set_operator_threads(int threads);

}  // namespace hadal::engine
