#include "launch/slow_ranks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace hadal::launch {
namespace {

// One slow step is nothing.
constexpr int kSteps = 50;
// What is worth a line: so many times the others' time, and so many seconds a step more.
constexpr float kTimes = 1.5f;
constexpr float kSeconds = 0.005f;

float all_of(const engine::RankTimes& times) { return times.data + times.compute + times.save; }

// Most ranks take no longer.
template <class Part>
float usual(const std::vector<engine::RankTimes>& ranks, Part part) {
  std::vector<float> values;
  for (const engine::RankTimes& times : ranks) values.push_back(part(times));
  std::sort(values.begin(), values.end());
  return values[(values.size() - 1) / 2];
}

}  // namespace

std::vector<std::string> SlowRanks::take(const std::vector<engine::RankTimes>& step) {
  if (step.size() < 2) return {};
  sums_.resize(step.size());
  for (std::size_t r = 0; r < step.size(); ++r) {
    sums_[r].data += step[r].data;
    sums_[r].compute += step[r].compute;
    sums_[r].save += step[r].save;
  }
  if (++steps_ < kSteps) return {};
  const float others = usual(sums_, all_of);
  struct Reason {
    const char* name;
    float (*part)(const engine::RankTimes&);
  };
  constexpr std::array<Reason, 3> kReasons{
      {{"waiting for data", [](const engine::RankTimes& t) { return t.data; }},
       {"computing", [](const engine::RankTimes& t) { return t.compute; }},
       {"saving", [](const engine::RankTimes& t) { return t.save; }}}};
  std::vector<std::string> lines;
  for (std::size_t r = 0; r < sums_.size(); ++r) {
    const float own = all_of(sums_[r]);
    if (own < kTimes * others || own - others < kSeconds * kSteps) continue;
    const auto more = [&](const Reason& reason) {
      return reason.part(sums_[r]) - usual(sums_, reason.part);
    };
    const Reason& why =
        *std::max_element(kReasons.begin(), kReasons.end(),
                          [&](const Reason& a, const Reason& b) { return more(a) < more(b); });
    if (!told_.emplace(r, why.name).second) continue;
    constexpr float kMilliseconds = 1e3f / kSteps;
    lines.push_back(fmt::format(
        "rank {}{} keeps the others waiting: {} takes it {:.0f} ms a step, others {:.0f} ms", r,
        r < hosts_.size() ? " on " + hosts_[r] : "", why.name, kMilliseconds * why.part(sums_[r]),
        kMilliseconds * usual(sums_, why.part)));
  }
  sums_.clear();
  steps_ = 0;
  return lines;
}

}  // namespace hadal::launch
