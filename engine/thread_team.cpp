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
    start_.wait(lock, [this] { return stop_ || job_->next < job_->end; });
    if (stop_) return;
    const std::shared_ptr<Job> job = job_;
    const std::int64_t item = job->next++;
    ++job->running;
    lock.unlock();
    std::exception_ptr failure;
    try {
      job->body(thread, item);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    --job->running;
    if (failure && (!job->failure || item < job->failed_item)) {
      job->failure = failure;
      job->failed_item = item;
      job->end = job->next;
    }
    if (!job->over()) continue;
    job->seconds = job->watch.seconds();
    done_.notify_all();
  }
}

ThreadTeam::Running ThreadTeam::start(std::int64_t begin, std::int64_t end, Body body) {
  auto job = std::make_shared<Job>();
  job->body = std::move(body);
  job->next = begin;
  job->end = end;
  const std::lock_guard lock(mutex_);
  job_ = job;
  start_.notify_all();
  return {*this, std::move(job)};
}

bool ThreadTeam::busy() {
  const std::lock_guard lock(mutex_);
  return !job_->over();
}

void ThreadTeam::run(std::int64_t begin, std::int64_t end, Body body) {
  if (begin != end) start(begin, end, std::move(body)).finish();
}

void ThreadTeam::assist(std::int64_t begin, std::int64_t end,
                        const std::function<void(std::int64_t)>& body) {
  while (begin < end && busy()) body(begin++);
  run(begin, end, [&](int, std::int64_t item) { body(item); });
}

void ThreadTeam::wait_for(Job& job) {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return job.over(); });
}

ThreadTeam::Running::~Running() {
  if (job_ != nullptr) team_->wait_for(*job_);
}

double ThreadTeam::Running::finish() {
  const std::shared_ptr<Job> job = std::move(job_);
  team_->wait_for(*job);
  if (job->failure) std::rethrow_exception(job->failure);
  return job->seconds;
}

}  // namespace hadal::engine
