#include "kernels/average.hpp"
#include "kernels/device_code.hpp"

namespace hadal::kernels {
namespace {

struct Exchange {
  float* param;
  float* average;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const Pack<float, N> one = load<N>(param + block.offset + i);
    const Pack<float, N> other = load<N>(average + block.state + i);
    store<N>(other, param + block.offset + i);
    store<N>(one, average + block.state + i);
  }
};

}  // namespace

void swap_average(Stream stream, BlockTable table, float* param, float* average) {
  for_each_in_blocks(stream, table, is_aligned(param, average), Exchange{param, average});
}

}  // namespace hadal::kernels
