#include "io/loader.hpp"

#include <algorithm>

#include "kernels/flush_to_zero.hpp"

namespace hadal::io {

Loader::Loader(Produce produce, std::int64_t first, std::int64_t end, int threads)
    : produce_(std::move(produce)), end_(end), depth_(2 * threads + 2), next_(first), step_(first) {
  for (int k = 0; k < threads; ++k) threads_.emplace_back([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Loader::work() {
  kernels::set_flush_to_zero();
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stop_ || step_ >= end_ || step_ < next_ + depth_; });
    if (stop_ || step_ >= end_) return;
    const std::int64_t step = step_++;
    lock.unlock();
    Item item;
    try {
      item.batches = produce_(step);
    } catch (...) {
      item.failure = std::current_exception();
    }
    lock.lock();
    // Nothing comes after a step that failed.
    if (item.failure) end_ = std::min(end_, step + 1);
    ready_.emplace(step, std::move(item));
    lock.unlock();
    changed_.notify_all();
  }
}

std::vector<Batch> Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ready_.contains(next_); });
  Item item = std::move(ready_.extract(next_).mapped());
  ++next_;
  lock.unlock();
  changed_.notify_all();
  if (item.failure) std::rethrow_exception(item.failure);
  return std::move(item.batches);
}

}  // namespace hadal::io
