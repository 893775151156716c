#include "kernels/bfloat16_code.hpp"
#include "kernels/masters.hpp"

namespace hadal::kernels {
namespace {

struct Take {
  MasterMemory memory;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    store<N>(load<N>(memory.param + block.offset + i), memory.used + block.state + i);
    store<N>(load<N>(memory.master + block.state + i), memory.param + block.offset + i);
  }
};

struct Put {
  MasterMemory memory;

  template <int N>
  HADAL_BOTH void run(const Block& block, std::int32_t i) const {
    const Pack<float, N> goal = load<N>(memory.param + block.offset + i);
    const Pack<float, N> used = load<N>(memory.used + block.state + i);
    Pack<std::uint16_t, N> change;
    for (int k = 0; k < N; ++k) change.at[k] = rounded_to_bfloat16(goal.at[k] - used.at[k]);
    store<N>(goal, memory.master + block.state + i);
    store<N>(used, memory.param + block.offset + i);
    store<N>(change, memory.change + block.offset + i);
  }
};

bool fits_packs(const MasterMemory& memory) {
  return is_aligned(memory.param, memory.change, memory.master, memory.used);
}

}  // namespace

void take_masters(Stream stream, BlockTable table, const MasterMemory& memory) {
  for_each_in_blocks(stream, table, fits_packs(memory), Take{memory});
}

void put_masters(Stream stream, BlockTable table, const MasterMemory& memory) {
  for_each_in_blocks(stream, table, fits_packs(memory), Put{memory});
}

}  // namespace hadal::kernels
