// One pass over flat arrays of float32. Included once per Highway target, inside HWY_NAMESPACE.
#if defined(HADAL_FOR_EACH_VECTOR_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef HADAL_FOR_EACH_VECTOR_INL
#undef HADAL_FOR_EACH_VECTOR_INL
#else
#define HADAL_FOR_EACH_VECTOR_INL
#endif

#include <cstddef>

#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hadal::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Calls body(d, i) for elements i to i + Lanes(d) - 1. The tail goes element by element through the
// same operations: elements are independent, so a value never depends on where a span was cut.
// (Masked loads read past the end on targets without masks.) Each of `reads`, the arrays that body
// reads, is asked for eight cache lines ahead: divisions and square roots would otherwise keep the
// processor from looking that far. Body captures by value: a store to an array might change what it
// captures by reference.
template <class Body, class... Reads>
HWY_INLINE void for_each_vector(std::size_t count, Body body, const Reads*... reads) {
  constexpr std::size_t kLine = 64 / sizeof(float);
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t together = lanes > kLine ? lanes : kLine;
  std::size_t i = 0;
  for (; i + together <= count; i += together) {
    // Where less is left, the last element again.
    const std::size_t ahead = i + 8 * kLine < count ? i + 8 * kLine : count - 1;
    (hwy::Prefetch(reads + ahead), ...);
    for (std::size_t k = 0; k < together; k += lanes) body(d, i + k);
  }
  for (; i < count; ++i) body(one, i);
}

}  // namespace hadal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
