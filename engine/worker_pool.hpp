#pragma once
// The workers of a rank, one a thread.

#include <functional>
#include <memory>
#include <vector>

#include "engine/thread_team.hpp"
#include "engine/worker.hpp"

namespace hadal::engine {

class WorkerPool {
 public:
  using Make = std::function<std::unique_ptr<Worker>()>;
  using Body = std::function<void(Worker&, std::int64_t item)>;

  // One worker, with `threads` cores for the operators of each.
  WorkerPool(int threads, Make make) : make_(std::move(make)), team_(threads) { grow(1); }

  // Adds workers until there are `workers`. Not while they are at work.
  void grow(int workers) {
    while (size() < workers) {
      workers_.push_back(make_());
      team_.add();
    }
  }

  // See ThreadTeam::start and run.
  [[nodiscard]] ThreadTeam::Running start(std::int64_t begin, std::int64_t end, Body body) {
    return team_.start(begin, end, [this, body = std::move(body)](int thread, std::int64_t item) {
      body(*workers_[static_cast<std::size_t>(thread)], item);
    });
  }
  void run(std::int64_t begin, std::int64_t end, Body body) {
    if (begin != end) start(begin, end, std::move(body)).finish();
  }

  ThreadTeam& team() { return team_; }
  int size() const { return team_.size(); }

 private:
  Make make_;
  std::vector<std::unique_ptr<Worker>> workers_;
  ThreadTeam team_;  // its threads end before the workers do
};

}  // namespace hadal::engine
