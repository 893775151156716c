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

struct Widen {
  float* value;
  const std::uint16_t* copy;

  template <int N>
  HADAL_BOTH void run(std::int64_t i) const {
    const Pack<std::uint16_t, N> from = load<N>(copy + i);
    Pack<float, N> to;
    for (int k = 0; k < N; ++k) to.at[k] = from_bfloat16(from.at[k]);
    store<N>(to, value + i);
  }
};

struct RoundWithFeedback {
  float* rounded;
  const float* value;
  float* lost;

  template <int N>
  HADAL_BOTH void run(std::int64_t i) const {
    const Pack<float, N> given = load<N>(value + i);
    Pack<float, N> left = load<N>(lost + i), to;
    for (int k = 0; k < N; ++k) {
      const float x = given.at[k] + left.at[k];
      to.at[k] = from_bfloat16(rounded_to_bfloat16(x));
      // It may be infinite where x is not; then what is left is no more finite.
      const float rest = x - to.at[k];
      left.at[k] = rest - rest == 0 ? rest : 0;
    }
    store<N>(left, lost + i);
    store<N>(to, rounded + i);
  }
};

struct AddHalves {
  float* value;
  const std::uint16_t* change;

  template <int N>
  HADAL_BOTH void run(std::int64_t i) const {
    const Pack<std::uint16_t, N> from = load<N>(change + i);
    Pack<float, N> to = load<N>(value + i);
    for (int k = 0; k < N; ++k) to.at[k] = to.at[k] + from_bfloat16(from.at[k]);
    store<N>(to, value + i);
  }
};

}  // namespace

void to_bfloat16(Stream stream, std::span<std::uint16_t> copy, std::span<const float> value) {
  for_each_element(stream, static_cast<std::int64_t>(value.size()),
                   is_aligned(copy.data(), value.data()), Round{copy.data(), value.data()});
}

void from_bfloat16(Stream stream, std::span<float> value, std::span<const std::uint16_t> copy) {
  for_each_element(stream, static_cast<std::int64_t>(value.size()),
                   is_aligned(value.data(), copy.data()), Widen{value.data(), copy.data()});
}

void round_with_feedback(Stream stream, std::span<float> rounded, std::span<const float> value,
                         std::span<float> lost) {
  for_each_element(stream, static_cast<std::int64_t>(value.size()),
                   is_aligned(rounded.data(), value.data(), lost.data()),
                   RoundWithFeedback{rounded.data(), value.data(), lost.data()});
}

void add_bfloat16(Stream stream, std::span<float> value, std::span<const std::uint16_t> change) {
  for_each_element(stream, static_cast<std::int64_t>(value.size()),
                   is_aligned(value.data(), change.data()), AddHalves{value.data(), change.data()});
}

}  // namespace hadal::kernels
