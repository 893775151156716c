#pragma once
// Random choices for a sample: a function of (seed, epoch, sample) and of the number of what
// chooses. The same on every rank and in every order of reading, with nothing to save.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "io/sample_order.hpp"

namespace hadal::io {

struct Draws {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

// The numbers that one choice of one sample needs.
class DrawStream {
 public:
  DrawStream(const Draws& draws, std::int64_t sample, std::size_t number)
      : key_(mix(mix(draws.seed, kKey, static_cast<std::uint64_t>(draws.epoch)),
                 static_cast<std::uint64_t>(sample), number)) {}

  std::uint64_t key() const { return key_; }
  // In [0, 1).
  double uniform() { return static_cast<double>(mix(key_, ++drawn_) >> 11) * 0x1p-53; }
  double uniform(double least, double most) { return least + (most - least) * uniform(); }
  // In [0, count).
  std::int64_t below(std::int64_t count) {
    return std::min(count - 1, static_cast<std::int64_t>(uniform() * static_cast<double>(count)));
  }

 private:
  static constexpr std::uint64_t kKey = 0x6175676d656e74ULL;
  std::uint64_t key_;
  std::uint64_t drawn_ = 0;
};

}  // namespace hadal::io
