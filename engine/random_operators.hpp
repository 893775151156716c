#pragma once
// libtorch has one default random generator for the process, which parallel workers would share.
// While a WorkerGenerator lives, the in-place random operators of its thread draw from its
// generator wherever the caller names none: those inside dropout, attention and recurrent layers
// among them.

#include <string>

namespace at {
struct Generator;
}

namespace hadal::engine {

class WorkerGenerator {
 public:
  // `generator` must outlive the object.
  explicit WorkerGenerator(const at::Generator& generator);
  ~WorkerGenerator();
  WorkerGenerator(const WorkerGenerator&) = delete;
  WorkerGenerator& operator=(const WorkerGenerator&) = delete;

 private:
  const at::Generator* outer_;
};

// True for a random operator (its name without namespace and overload) that draws through those
// in-place ones where it is given no generator, and for them.
bool draws_from_worker(const std::string& name);

}  // namespace hadal::engine
