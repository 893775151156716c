#include "io/loader.hpp"

#include "kernels/flush_to_zero.hpp"

namespace hadal::io {

Loader::Loader(Produce produce, std::int64_t first, std::int64_t end, std::size_t depth)
    : produce_(std::move(produce)), step_(first), end_(end), depth_(depth) {
  thread_ = std::thread([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Loader::work() {
  kernels::set_flush_to_zero();
  for (; step_ < end_; ++step_) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || queue_.size() < depth_; });
      if (stop_) return;
    }
    Item item;
    try {
      item.batches = produce_(step_);
    } catch (...) {
      item.failure = std::current_exception();
    }
    const bool failed = item.failure != nullptr;
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(item));
    }
    changed_.notify_all();
    if (failed) return;
  }
}

std::vector<Batch> Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !queue_.empty(); });
  Item item = std::move(queue_.front());
  queue_.pop_front();
  lock.unlock();
  changed_.notify_all();
  if (item.failure) std::rethrow_exception(item.failure);
  return std::move(item.batches);
}

}  // namespace hadal::io
