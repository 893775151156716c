#include "engine/thread_team.hpp"

#include <ATen/Parallel.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <limits>

#include "kernels/flush_to_zero.hpp"

namespace hadal::engine {
namespace {

// What a step frees the next one takes again. By default glibc hands the top of the heap back to
// the system whenever backward has freed a few dozen megabytes, and pays for every page anew.
// The heaps of threads (64 MB each) go back whole, whatever the trim threshold says, unless the
// padding is as large as they are; it is address space, touched when used.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // glibc's upper limit; larger blocks still go back
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace

void set_operator_threads(int threads) {
  kernels::set_flush_to_zero();
  at::set_num_threads(threads);
  // The team's other threads start with the default floating-point mode.
  at::parallel_for(0, threads, 1, [](std::int64_t, std::int64_t) { kernels::set_flush_to_zero(); });
}

void ThreadTeam::add() {
  keep_freed_memory();
  threads_.emplace_back([this, thread = size()] { work(thread); });
}

ThreadTeam::~ThreadTeam() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& each : threads_) each.join();
}

void ThreadTeam::work(int thread) {
  set_operator_threads(operator_threads_);
  std::unique_lock lock(mutex_);
  for (;;) {
    start_.wait(lock, [this] { return stop_ || next_ < end_; });
    if (stop_) return;
    const std::int64_t item = next_++;
    ++running_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      (*body_)(thread, item);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    --running_;
    if (failure && (!failure_ || item < failed_item_)) {
      failure_ = failure;
      failed_item_ = item;
      end_ = next_;
    }
    if (running_ == 0 && next_ >= end_) done_.notify_all();
  }
}

void ThreadTeam::run(std::int64_t begin, std::int64_t end, const Body& body) {
  if (begin == end) return;
  std::unique_lock lock(mutex_);
  body_ = &body;
  failure_ = nullptr;
  next_ = begin;
  end_ = end;
  start_.notify_all();
  done_.wait(lock, [this] { return running_ == 0 && next_ >= end_; });
  if (failure_) std::rethrow_exception(failure_);
}

}  // namespace hadal::engine
