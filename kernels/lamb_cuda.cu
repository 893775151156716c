#include "kernels/lamb.hpp"
#include "kernels/update_code.hpp"

namespace hadal::kernels {
namespace {

HADAL_BOTH float update_of(float param, float first, float second, const LambStep& s) {
  const float denominator = sqrtf(second) / s.root + s.eps;
  return fused(param, s.weight_decay, first / s.correction1 / denominator);
}

struct Moments {
  UpdateMemory memory;
  const UpdateRow<LambStep>* rows;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const UpdateRow<LambStep>& row = rows[block.entry];
    if (!row.trains) return;
    const LambStep& s = row.step;
    const Pack<float, N> grad = load<N>(memory.grad + block.offset + i);
    Pack<float, N> first = load<N>(memory.first + block.state + i);
    Pack<float, N> second = load<N>(memory.second + block.state + i);
    for (int k = 0; k < N; ++k) move_moments(grad.at[k], s, first.at[k], second.at[k]);
    store<N>(first, memory.first + block.state + i);
    store<N>(second, memory.second + block.state + i);
  }
};

struct UpdateSquares {
  UpdateMemory memory;
  const UpdateRow<LambStep>* rows;

  HADAL_BOTH double lane(const Block& block, int lane) const {
    const LambStep& s = rows[block.entry].step;
    double sum = 0;
    for (std::int32_t i = lane; i < block.count; i += kSumLanes) {
      const double update =
          update_of(memory.param[block.offset + i], memory.first[block.state + i],
                    memory.second[block.state + i], s);
      sum += update * update;
    }
    return sum;
  }
};

struct Lamb {
  UpdateMemory memory;
  const UpdateRow<LambStep>* rows;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const UpdateRow<LambStep>& row = rows[block.entry];
    if (!row.trains) return;
    Pack<float, N> param = load<N>(memory.param + block.offset + i);
    const Pack<float, N> first = load<N>(memory.first + block.state + i);
    const Pack<float, N> second = load<N>(memory.second + block.state + i);
    for (int k = 0; k < N; ++k) {
      const float update = update_of(param.at[k], first.at[k], second.at[k], row.step);
      param.at[k] = fused(update, row.factor, param.at[k]);
    }
    finish_update<N>(memory, block, i, param);
  }
};

}  // namespace

void lamb_moments(Stream stream, BlockTable table, const UpdateMemory& memory,
                  const UpdateRow<LambStep>* rows) {
  for_each_in_blocks(stream, table, is_aligned(memory), Moments{memory, rows});
}

void lamb_update_squares(Stream stream, BlockTable table, const UpdateMemory& memory,
                         const UpdateRow<LambStep>* rows, double* sums, int stride) {
  sum_blocks(stream, table, UpdateSquares{memory, rows}, sums, stride);
}

void lamb(Stream stream, BlockTable table, const UpdateMemory& memory,
          const UpdateRow<LambStep>* rows) {
  for_each_in_blocks(stream, table, is_aligned(memory), Lamb{memory, rows});
}

}  // namespace hadal::kernels
