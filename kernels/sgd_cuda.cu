#include "kernels/sgd.hpp"
#include "kernels/update_code.hpp"

namespace hadal::kernels {
namespace {

struct Sgd {
  UpdateMemory memory;
  const UpdateRow<SgdStep>* rows;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const UpdateRow<SgdStep>& row = rows[block.entry];
    if (!row.trains) return;
    const SgdStep& s = row.step;
    const Pack<float, N> grad = load<N>(memory.grad + block.offset + i);
    Pack<float, N> param = load<N>(memory.param + block.offset + i);
    Pack<float, N> buffer{};
    const bool has_momentum = s.momentum != 0;
    if (has_momentum) buffer = load<N>(memory.first + block.state + i);
    for (int k = 0; k < N; ++k) {
      float g = grad.at[k];
      if (s.grad_scale != 1) g *= s.grad_scale;
      if (s.weight_decay != 0) g = fused(param.at[k], s.weight_decay, g);
      float direction = g;
      if (has_momentum) {
        float& b = buffer.at[k];
        b = b * s.momentum + g;
        direction = s.nesterov ? fused(b, s.momentum, g) : b;
      }
      param.at[k] = fused(direction, -s.lr, param.at[k]);
    }
    if (has_momentum) store<N>(buffer, memory.first + block.state + i);
    finish_update<N>(memory, block, i, param);
  }
};

}  // namespace

void sgd(Stream stream, BlockTable table, const UpdateMemory& memory,
         const UpdateRow<SgdStep>* rows) {
  for_each_in_blocks(stream, table, is_aligned(memory), Sgd{memory, rows});
}

}  // namespace hadal::kernels
