#pragma once
// Losses far above what they have just been: a sign of bad samples or of too high a learning rate,
// worth a line though the run goes on.

#include <cstddef>
#include <deque>
#include <optional>

namespace hadal::launch {

class LossSpikes {
 public:
  // Takes the loss of a step; the median of those before it where it is a spike.
  std::optional<double> take(double loss);

 private:
  std::deque<double> last_;
  std::size_t quiet_ = 0;  // steps until one may be told again
};

}  // namespace hadal::launch
