#include "kernels/flush_to_zero.hpp"

#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hadal::kernels {

#if defined(__x86_64__)
// MXCSR bits 15 (FTZ) and 6 (DAZ): Intel SDM volume 1, section 10.2.3.
constexpr unsigned kFlushBits = (1u << 15) | (1u << 6);

void set_flush_to_zero() { _mm_setcsr(_mm_getcsr() | kFlushBits); }

bool flushes_to_zero() { return (_mm_getcsr() & kFlushBits) == kFlushBits; }
#elif defined(__aarch64__)
// FPCR bit 24 (FZ): Arm Architecture Reference Manual, FPCR.
constexpr std::uint64_t kFlushBits = std::uint64_t{1} << 24;

static std::uint64_t read_fpcr() {
  std::uint64_t value = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}

void set_flush_to_zero() {
  const std::uint64_t value = read_fpcr() | kFlushBits;
  __asm__ volatile("msr fpcr, %0" ::"r"(value));
}

bool flushes_to_zero() { return (read_fpcr() & kFlushBits) == kFlushBits; }
#else
#error "flush-to-zero is not known for this processor: add its control register here"
#endif

}  // namespace hadal::kernels
