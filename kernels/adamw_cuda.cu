#include "kernels/adamw.hpp"
#include "kernels/update_code.hpp"

namespace hadal::kernels {
namespace {

struct Adamw {
  UpdateMemory memory;
  const UpdateRow<AdamwStep>* rows;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const UpdateRow<AdamwStep>& row = rows[block.entry];
    if (!row.trains) return;
    const AdamwStep& s = row.step;
    const Pack<float, N> grad = load<N>(memory.grad + block.offset + i);
    Pack<float, N> param = load<N>(memory.param + block.offset + i);
    Pack<float, N> first = load<N>(memory.first + block.state + i);
    Pack<float, N> second = load<N>(memory.second + block.state + i);
    for (int k = 0; k < N; ++k) {
      move_moments(grad.at[k], s, first.at[k], second.at[k]);
      const float denominator = sqrtf(second.at[k]) / s.root + s.eps;
      param.at[k] = param.at[k] * s.decay + -s.step_size * first.at[k] / denominator;
    }
    store<N>(first, memory.first + block.state + i);
    store<N>(second, memory.second + block.state + i);
    finish_update<N>(memory, block, i, param);
  }
};

}  // namespace

void adamw(Stream stream, BlockTable table, const UpdateMemory& memory,
           const UpdateRow<AdamwStep>* rows) {
  for_each_in_blocks(stream, table, is_aligned(memory), Adamw{memory, rows});
}

}  // namespace hadal::kernels
