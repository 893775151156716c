#include "engine/evaluation.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/canonical_fold.hpp"
#include "engine/comm/collectively.hpp"
#include "io/loader.hpp"

namespace hadal::engine {
namespace {

using Sums = std::vector<double>;

Sums add_sums(Sums sum, Sums addend) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += addend[i];
  return sum;
}

// Nodes travel as level, index and sums, all as doubles: indices are exact up to 2^53.
std::string packed(const std::map<kernels::TreeNode, Sums>& nodes) {
  std::vector<double> flat;
  for (const auto& [node, sums] : nodes) {
    flat.push_back(static_cast<double>(node.level));
    flat.push_back(static_cast<double>(node.index));
    flat.insert(flat.end(), sums.begin(), sums.end());
  }
  return {reinterpret_cast<const char*>(flat.data()), flat.size() * sizeof(double)};
}

}  // namespace

const double* EvaluationResult::find(const std::string& name) const {
  const auto it = std::find(names.begin(), names.end(), name);
  return it == names.end() ? nullptr : &values[static_cast<std::size_t>(it - names.begin())];
}

Evaluator::Evaluator(Communicator& comm, WorkerPool& pool, const io::DataIndex& index,
                     const io::BatchOptions& options, std::int64_t micro_batch,
                     const Objective& objective)
    : comm_(comm),
      pool_(pool),
      index_(index),
      micro_batch_(micro_batch),
      objective_(objective),
      reader_(index, options) {}

EvaluationResult Evaluator::run(const BufferValues& buffers) {
  const std::int64_t count = (index_.samples + micro_batch_ - 1) / micro_batch_;
  const Leaves leaves(std::vector<bool>(static_cast<std::size_t>(count), true));
  const Share share = shares(count, comm_.size())[static_cast<std::size_t>(comm_.rank())];
  const auto width = static_cast<std::int64_t>(pool_.size());
  const std::int64_t rounds = (share.count() + width - 1) / width;
  CanonicalFold<Sums> fold(leaves, share, add_sums);
  // A sum that leads each micro-batch counts its samples.
  run_collectively(comm_, "evaluating", [&] {
    const auto produce = [&](std::int64_t round) {
      std::vector<io::Batch> batches;
      const std::int64_t first = share.begin + round * width;
      for (std::int64_t m = first; m < std::min(first + width, share.end); ++m) {
        std::vector<std::int64_t> ids(
            static_cast<std::size_t>(std::min(micro_batch_, index_.samples - m * micro_batch_)));
        std::iota(ids.begin(), ids.end(), m * micro_batch_);
        batches.push_back(reader_.read(ids));
      }
      return batches;
    };
    io::Loader loader(produce, 0, rounds, 2);
    for (std::int64_t round = 0; round < rounds; ++round) {
      const std::vector<io::Batch> batches = loader.next();
      pool_.run(0, static_cast<std::int64_t>(batches.size()), [&](Worker& worker, std::int64_t i) {
        const io::Batch& batch = batches[static_cast<std::size_t>(i)];
        Sums sums(objective_.sum_count() + 1, 0.0);
        if (batch.count() > 0) {
          const Sums values = worker.evaluate(batch, buffers);
          std::copy(values.begin(), values.end(), sums.begin() + 1);
          sums[0] = static_cast<double>(batch.count());
        }
        fold.arrive(share.begin + round * width + i, std::move(sums));
      });
    }
  });
  CanonicalFold<Sums> join(leaves, {0, count}, add_sums);
  const std::size_t stride = objective_.sum_count() + 3;
  for (const std::string& bytes : all_gather_text(comm_, packed(fold.take()))) {
    std::vector<double> flat(bytes.size() / sizeof(double));
    if (!bytes.empty()) std::memcpy(flat.data(), bytes.data(), bytes.size());
    for (std::size_t at = 0; at < flat.size(); at += stride) {
      const kernels::TreeNode node{static_cast<int>(flat[at]),
                                   static_cast<std::int64_t>(flat[at + 1])};
      const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(at) + 2;
      join.arrive(node, Sums(begin, begin + static_cast<std::ptrdiff_t>(stride) - 2));
    }
  }
  const Sums total = join.take().begin()->second;
  return {.samples = static_cast<std::int64_t>(total[0]),
          .names = objective_.metrics(),
          .values = objective_.values(std::span(total).subspan(1))};
}

}  // namespace hadal::engine
