#include "kernels/canonical_sum.hpp"
#include "kernels/device_code.hpp"

namespace hadal::kernels {
namespace {

// A stack in registers: every place has a number that the compiler knows.
template <int N>
struct Stack {
  static constexpr int kDepth = SumProgram::kDepth;
  Pack<float, N> at[kDepth];

  HADAL_BOTH void push(const Pack<float, N>& value) {
    for (int i = kDepth - 1; i > 0; --i) at[i] = at[i - 1];
    at[0] = value;
  }
  HADAL_BOTH void add() {
    for (int k = 0; k < N; ++k) at[0].at[k] = at[1].at[k] + at[0].at[k];
    for (int i = 1; i + 1 < kDepth; ++i) at[i] = at[i + 1];
  }
};

struct TreeSumOf {
  SumProgram program;
  float* sum;

  template <int N>
  HADAL_BOTH void run(std::int64_t i) const {
    Stack<N> stack{};
    int source = 0;
    for (int step = 0; step < program.length; ++step) {
      if ((program.adds >> step & 1u) != 0) {
        stack.add();
      } else {
        stack.push(load<N>(program.sources[source++] + i));
      }
    }
    store<N>(stack.at[0], sum + i);
  }
};

}  // namespace

void run_sum(Stream stream, const SumProgram& program, std::span<float> sum) {
  bool aligned = is_aligned(sum.data());
  for (int s = 0; s < program.source_count(); ++s) {
    aligned = aligned && is_aligned(program.sources[s]);
  }
  for_each_element(stream, static_cast<std::int64_t>(sum.size()), aligned,
                   TreeSumOf{program, sum.data()});
}

void add_into(Stream stream, std::span<float> sum, std::span<const float> addend) {
  SumProgram program{.adds = 0b100, .length = 3};
  program.sources[0] = sum.data();
  program.sources[1] = addend.data();
  run_sum(stream, program, sum);
}

}  // namespace hadal::kernels
