#include "kernels/bfloat16.hpp"
#include "kernels/bfloat16_code.hpp"

namespace hadal::kernels {
namespace {

struct Round {
  std::uint16_t* copy;
  const float* value;

  template <int N>
  HADAL_BOTH void run(std::int64_t i) const {
    const Pack<float, N> from = load<N>(value + i);
    Pack<std::uint16_t, N> to;
    for (int k = 0; k < N; ++k) to.at[k] = rounded_to_bfloat16(from.at[k]);
    store<N>(to, copy + i);
  }
};

}  // namespace

void to_bfloat16(Stream stream, std::span<std::uint16_t> copy, std::span<const float> value) {
  for_each_element(stream, static_cast<std::int64_t>(value.size()),
                   is_aligned(copy.data(), value.data()), Round{copy.data(), value.data()});
}

}  // namespace hadal::kernels
