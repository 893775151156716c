#pragma once
// libtorch has one default random generator for the process, which parallel workers would share.
// While a WorkerGenerator lives, the in-place random operators of its thread draw from its
// generator wherever the caller names none: those inside dropout, attention and recurrent layers
// among them.

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

}  // namespace hadal::engine
