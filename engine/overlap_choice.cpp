#include "engine/overlap_choice.hpp"

#include <fmt/format.h>

#include "engine/median.hpp"
#include "io/log.hpp"

namespace hadal::engine {
namespace {

// The first ones also set up memory and connections, and observe the order of the buckets.
constexpr int kWarmUp = 2;
constexpr int kTried = 10;

}  // namespace

OverlapChoice::OverlapChoice(Communicator& comm, Overlap wish, bool possible)
    : comm_(comm),
      trying_(possible && wish == Overlap::automatic),
      on_(possible && wish != Overlap::never) {}

void OverlapChoice::record(double seconds) {
  if (!trying_) return;
  if (++steps_ > kWarmUp) (on_ ? with_ : without_).push_back(seconds);
  on_ = !on_;
  if (steps_ < kWarmUp + kTried) return;
  trying_ = false;
  const double with = median(with_), without = median(without_);
  std::byte chosen{with < without};
  comm_.broadcast(std::span(&chosen, 1), 0);
  on_ = chosen != std::byte{0};
  if (comm_.rank() != 0) return;
  io::log_info(fmt::format(
      "gradients are reduced {} backward: a step took {:.1f} ms beside it and {:.1f} ms after it",
      on_ ? "beside" : "after", 1e3 * with, 1e3 * without));
}

}  // namespace hadal::engine
