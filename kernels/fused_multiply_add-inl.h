// a * b + c with one rounding on every target. Included once per Highway target, inside
// HWY_NAMESPACE. PyTorch's add with alpha rounds once where the processor has the instruction;
// targets without it (SSE4 and older) compute the same bits with std::fma, slowly.
#if defined(HADAL_FUSED_MULTIPLY_ADD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef HADAL_FUSED_MULTIPLY_ADD_INL
#undef HADAL_FUSED_MULTIPLY_ADD_INL
#else
#define HADAL_FUSED_MULTIPLY_ADD_INL
#endif

#include <cmath>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V>
HWY_INLINE V fused_multiply_add(D d, V a, V b, V c) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulAdd(a, b, c);
#else
  using T = hn::TFromD<D>;
  HWY_ALIGN T x[HWY_MAX_BYTES / sizeof(T)];
  HWY_ALIGN T y[HWY_MAX_BYTES / sizeof(T)];
  HWY_ALIGN T z[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  hn::Store(c, d, z);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return hn::Load(d, z);
#endif
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
