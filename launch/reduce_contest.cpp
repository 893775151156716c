#include "launch/reduce_contest.hpp"

#include <algorithm>

#include "engine/stopwatch.hpp"

namespace hadal::launch {
namespace {

constexpr std::int64_t kPeriod = 251;

}  // namespace

std::int64_t ReduceContest::wrong() {
  std::int64_t all = 0;
  for (const std::string& theirs : engine::all_gather_text(comm_, std::to_string(wrong_)))
    all += std::stoll(theirs);
  return all;
}

void ReduceContest::fill_gradient(std::span<float> values, std::int64_t micro_batch) {
  for (std::size_t k = 0; k < values.size(); ++k) {
    values[k] = static_cast<float>(k % kPeriod) + static_cast<float>(micro_batch);
  }
}

void ReduceContest::count_wrong(std::span<const float> sum, const engine::ArenaSlice& slice,
                                std::int64_t parameters, std::int64_t gradients) {
  for (std::int64_t i = slice.begin; i < std::min(slice.end, parameters); ++i) {
    const auto expected =
        static_cast<float>(gradients * (i % kPeriod) + gradients * (gradients - 1) / 2);
    if (sum[static_cast<std::size_t>(i)] != expected) ++wrong_;
  }
}

double ReduceContest::timed(const std::function<void()>& body) {
  comm_.barrier();
  const engine::Stopwatch watch;
  body();
  const double seconds = watch.seconds();
  std::vector<double> all(static_cast<std::size_t>(comm_.size()));
  comm_.all_gather(std::as_bytes(std::span(&seconds, 1)), std::as_writable_bytes(std::span(all)));
  return *std::max_element(all.begin(), all.end());
}

}  // namespace hadal::launch
