#pragma once
// Exact evaluation: every sample of a split once, in dataset order, cut into micro-batches by
// number. Sums are float64, joined in the canonical tree, divided once: the same bits for any
// number of ranks.

#include <optional>
#include <string>
#include <vector>

#include "engine/comm/communicator.hpp"
#include "engine/plan.hpp"
#include "engine/wishes.hpp"
#include "engine/worker_pool.hpp"
#include "io/batch_reader.hpp"

namespace hadal::engine {

struct EvaluationResult {
  std::int64_t samples = 0;
  std::vector<std::string> names;  // "loss", then the metrics
  std::vector<double> values;
  // Confusion tables by metric name: rows are true classes.
  std::vector<std::pair<std::string, std::vector<std::vector<std::int64_t>>>> tables;

  // The value of a metric, or nothing.
  const double* find(const std::string& name) const;
};

class Evaluator {
 public:
  // All references must outlive the evaluator.
  Evaluator(Communicator& comm, WorkerPool& pool, const io::DataIndex& index,
            const io::BatchOptions& options, std::int64_t micro_batch, const Objective& objective);

  // Collective. `stop` tells whether this rank wishes to end at once, asked every few batches;
  // where any rank does, the result is not known.
  std::optional<EvaluationResult> run(const AskStop& stop);
  // To its end.
  EvaluationResult run();

 private:
  std::vector<io::Batch> load(const Share& share, std::int64_t round);
  std::int64_t width() const { return static_cast<std::int64_t>(pool_.size()); }

  Communicator& comm_;
  WorkerPool& pool_;
  const io::DataIndex& index_;
  std::int64_t micro_batch_;
  const Objective& objective_;
  io::BatchReader reader_;
};

}  // namespace hadal::engine
