#pragma once
// The threads of a rank that compute. Items of a range are handed out in order to whichever thread
// is free; who computes what changes no bit. Flush-to-zero and the operator threads are set in
// each.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/stopwatch.hpp"

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

  // One more thread. Not while it is busy.
  void add();

 private:
  struct Job {
    Body body;
    std::int64_t next = 0;
    std::int64_t end = 0;
    std::int64_t running = 0;
    std::int64_t failed_item = 0;
    std::exception_ptr failure;
    Stopwatch watch;
    double seconds = 0;
    bool over() const { return running == 0 && next >= end; }
  };

 public:
  // Work under way. Its end waits for it too, so that nothing it uses goes before it.
  class Running {
   public:
    Running(Running&&) = default;
    ~Running();
    // Waits. The failure of the lowest item is rethrown. Seconds from start() to the last item's
    // end.
    double finish();

   private:
    friend class ThreadTeam;
    Running(ThreadTeam& team, std::shared_ptr<Job> job) : team_(&team), job_(std::move(job)) {}
    ThreadTeam* team_;
    std::shared_ptr<Job> job_;
  };

  // Begins to call body for every item of [begin, end). Not while it is busy.
  [[nodiscard]] Running start(std::int64_t begin, std::int64_t end, Body body);

  // Whether what was started last is not over yet.
  bool busy();

  // start() and finish().
  void run(std::int64_t begin, std::int64_t end, Body body);

  // Calls body for every item and waits: on the calling thread for as long as the team is busy with
  // something else, then on the team.
  void assist(std::int64_t begin, std::int64_t end,
              const std::function<void(std::int64_t item)>& body);

  int size() const { return static_cast<int>(threads_.size()); }

 private:
  void work(int thread);
  void wait_for(Job& job);

  int operator_threads_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  std::shared_ptr<Job> job_ = std::make_shared<Job>();
  bool stop_ = false;
};

}  // namespace hadal::engine
