#pragma once
// How whoever waits for gradients hears of them.

#include <cstddef>
#include <functional>

namespace hadal::engine {

// Hears of each arena entry once, when its gradient is there for good.
using Arrived = std::function<void(std::size_t entry)>;

// What it has heard, where forward and backward may have been recorded (batch_graphs.hpp).
enum class Told {
  now,     // of this call
  before,  // of the call that recorded: the same marks are reached anew
  wrong,   // too early, or not all: the gradients are there when the lane is done
};

}  // namespace hadal::engine
