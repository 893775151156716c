#pragma once
// A thread that prepares the batches of coming steps into a bounded queue. What a step contains is
// a pure function of its number, so nothing in the queue has to be saved.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "io/batch_reader.hpp"

namespace hadal::io {

class Loader {
 public:
  using Produce = std::function<std::vector<Batch>(std::int64_t step)>;

  // Calls produce(first), produce(first + 1), … below `end` on its own thread, at most `depth`
  // steps ahead of next().
  Loader(Produce produce, std::int64_t first, std::int64_t end, std::size_t depth);

  // Stops the thread after the step it is working on.
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Batches of the next step; blocks until they are there. Rethrows what produce threw for that
  // step.
  std::vector<Batch> next();

 private:
  struct Item {
    std::vector<Batch> batches;
    std::exception_ptr failure;
  };

  void work();

  Produce produce_;
  std::int64_t step_;
  std::int64_t end_;
  std::size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace hadal::io
