#pragma once
// Threads that prepare the batches of coming steps. What a step contains is a pure function of its
// number, so nothing that is ready has to be saved.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "io/batch_reader.hpp"

namespace hadal::io {

class Loader {
 public:
  using Produce = std::function<std::vector<Batch>(std::int64_t step)>;

  // Calls produce(first), produce(first + 1), … below `end` on `threads` threads, each a step at a
  // time, at most two of them a thread, and two more, ahead of next().
  Loader(Produce produce, std::int64_t first, std::int64_t end, int threads);

  // Stops the threads after the steps they are working on.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Batches of the next step; blocks until they are there. Rethrows what produce threw for that
  // step, once all before it have been handed out.
  std::vector<Batch> next();

 private:
  struct Item {
    std::vector<Batch> batches;
    std::exception_ptr failure;
  };

  void work();

  Produce produce_;
  std::int64_t end_;
  std::int64_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::int64_t next_;  // to be handed out
  std::int64_t step_;  // to be begun
  std::map<std::int64_t, Item> ready_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace hadal::io
