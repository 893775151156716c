#include <bit>
#include <cassert>

#include "kernels/canonical_sum.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/canonical_sum_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/for_each_vector-inl.h"
#include "kernels/fused_multiply_add-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void Add(float* sum, const float* a, const float* b, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, sum + i);
  };
  for_each_vector(count, body, a, b);
}

void AddScaled(float* sum, float factor, const float* addend, std::size_t count) {
  const auto body = [=](auto d, std::size_t i) HWY_ATTR {
    const auto scaled =
        fused_multiply_add(d, hn::LoadU(d, addend + i), hn::Set(d, factor), hn::LoadU(d, sum + i));
    hn::StoreU(scaled, d, sum + i);
  };
  for_each_vector(count, body, sum, addend);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hadal::kernels {
HWY_EXPORT(Add);
HWY_EXPORT(AddScaled);

std::int64_t padded_leaves(std::int64_t leaves) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(leaves)));
}

std::vector<TreeNode> covering_nodes(std::int64_t begin, std::int64_t end) {
  std::vector<TreeNode> nodes;
  while (begin < end) {
    int level = begin == 0 ? 62 : std::countr_zero(static_cast<std::uint64_t>(begin));
    while ((std::int64_t{1} << level) > end - begin) --level;
    nodes.push_back({level, begin >> level});
    begin += std::int64_t{1} << level;
  }
  return nodes;
}

void add(std::span<float> sum, std::span<const float> a, std::span<const float> b) {
  assert(sum.size() == a.size() && sum.size() == b.size());
  HWY_DYNAMIC_DISPATCH(Add)(sum.data(), a.data(), b.data(), sum.size());
}

void add_scaled(std::span<float> sum, float factor, std::span<const float> addend) {
  assert(sum.size() == addend.size());
  HWY_DYNAMIC_DISPATCH(AddScaled)(sum.data(), factor, addend.data(), sum.size());
}

}  // namespace hadal::kernels
#endif
