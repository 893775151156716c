#include "kernels/device_code.hpp"
#include "kernels/norm.hpp"

namespace hadal::kernels {
namespace {

struct Squares {
  const float* values;

  HADAL_BOTH double lane(const Block& block, int lane) const {
    const float* const from = values + block.offset;
    double sum = 0;
    for (std::int32_t i = lane; i < block.count; i += kSumLanes) {
      const double value = from[i];
      sum += value * value;
    }
    return sum;
  }
};

}  // namespace

void sums_of_squares(Stream stream, BlockTable table, const float* values, double* sums,
                     int stride) {
  sum_blocks(stream, table, Squares{values}, sums, stride);
}

}  // namespace hadal::kernels
