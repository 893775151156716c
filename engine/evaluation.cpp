#include "engine/evaluation.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/canonical_fold.hpp"
#include "engine/comm/collectively.hpp"
#include "io/loader.hpp"

namespace hadal::engine {
namespace {

// The sums of some micro-batches, and how many samples they hold.
struct Part {
  std::int64_t samples = 0;
  Objective::Sums sums;
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const char*& from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  from += sizeof value;
  return value;
}

std::string packed(const std::map<kernels::TreeNode, Part>& nodes) {
  std::string out;
  for (const auto& [node, part] : nodes) {
    put<std::int64_t>(out, node.level);
    put<std::int64_t>(out, node.index);
    put(out, part.samples);
    put(out, static_cast<std::int64_t>(part.sums.size()));
    for (const std::vector<double>& sums : part.sums) {
      put(out, static_cast<std::int64_t>(sums.size()));
      for (const double sum : sums) put(out, sum);
    }
  }
  return out;
}

// The first node of `from`, which moves behind it.
std::pair<kernels::TreeNode, Part> unpacked(const char*& from) {
  kernels::TreeNode node;
  node.level = static_cast<int>(take<std::int64_t>(from));
  node.index = take<std::int64_t>(from);
  Part part{.samples = take<std::int64_t>(from), .sums = {}};
  part.sums.resize(static_cast<std::size_t>(take<std::int64_t>(from)));
  for (std::vector<double>& sums : part.sums) {
    sums.resize(static_cast<std::size_t>(take<std::int64_t>(from)));
    for (double& sum : sums) sum = take<double>(from);
  }
  return {node, std::move(part)};
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

EvaluationResult Evaluator::run() {
  return *run([] { return StopReason::none; });
}

// A round is a micro-batch for each worker.
std::vector<io::Batch> Evaluator::load(const Share& share, std::int64_t round) {
  std::vector<io::Batch> batches;
  const std::int64_t first = share.begin + round * width();
  for (std::int64_t m = first; m < std::min(first + width(), share.end); ++m) {
    std::vector<std::int64_t> ids(
        static_cast<std::size_t>(std::min(micro_batch_, index_.samples - m * micro_batch_)));
    std::iota(ids.begin(), ids.end(), m * micro_batch_);
    batches.push_back(reader_.read(ids));
  }
  return batches;
}

std::optional<EvaluationResult> Evaluator::run(const AskStop& stop) {
  const std::int64_t count = (index_.samples + micro_batch_ - 1) / micro_batch_;
  const Leaves leaves(std::vector<bool>(static_cast<std::size_t>(count), true));
  const std::vector<Share> all_shares = shares(count, comm_.size());
  const Share share = all_shares[static_cast<std::size_t>(comm_.rank())];
  const std::int64_t rounds = (share.count() + width() - 1) / width();
  const auto add = [this](Part sum, Part addend) {
    return Part{sum.samples + addend.samples,
                objective_.add(std::move(sum.sums), std::move(addend.sums))};
  };
  CanonicalFold<Part> fold(leaves, share, add);
  io::Loader loader([&](std::int64_t round) { return load(share, round); }, 0, rounds,
                    reader_.threads());
  Meetings meetings(comm_, stop);
  std::optional<io::Error> failure;
  std::int64_t round = 0;
  for (;;) {
    try {
      for (std::int64_t k = 0; k < meetings.items() && round < rounds && !failure; ++k, ++round) {
        const std::vector<io::Batch> batches = loader.next();
        const std::int64_t first = share.begin + round * width();
        pool_.run(0, std::ssize(batches), [&](Worker& worker, std::int64_t i) {
          const io::Batch& batch = batches[static_cast<std::size_t>(i)];
          Part part{.samples = batch.count(), .sums = {}};
          if (batch.count() > 0) part.sums = worker.evaluate(batch);
          fold.arrive(first + i, std::move(part));
        });
      }
    } catch (const std::exception& exception) {
      failure = io::as_error(exception);
    }
    const Meetings::Agreed agreed = meetings.meet(failure.has_value(), round >= rounds);
    if (agreed.any_failed) agree_on_failure(comm_, "evaluating", failure);
    if (agreed.all_done) break;
    if (agreed.stop != StopReason::none) return std::nullopt;
  }
  CanonicalFold<Part> join(leaves, {0, count}, add);
  for (const std::string& bytes : all_gather_text(comm_, packed(fold.take()))) {
    const char* at = bytes.data();
    while (at < bytes.data() + bytes.size()) {
      auto [node, part] = unpacked(at);
      join.arrive(node, std::move(part));
    }
  }
  const Part total = std::move(join.take().begin()->second);
  if (total.sums.empty()) {
    throw AgreedError(io::ErrorKind::data, "no sample is left to evaluate");
  }
  Objective::Values values = objective_.values(total.sums);
  return EvaluationResult{.samples = total.samples,
                          .names = objective_.metrics(),
                          .values = std::move(values.values),
                          .tables = std::move(values.tables)};
}

}  // namespace hadal::engine
