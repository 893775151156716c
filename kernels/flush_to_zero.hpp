#pragma once
// Denormal numbers slow an optimizer step many times over (its moments decay towards zero), so
// every thread of the program treats them as zero. The mode is part of the arithmetic: it must be
// set in every thread that computes, before its first operation, or the bits differ between
// threads.

namespace hadal::kernels {

// Sets flush-to-zero and denormals-are-zero for the calling thread.
void set_flush_to_zero();

// True where the calling thread flushes denormal results and operands to zero.
bool flushes_to_zero();

}  // namespace hadal::kernels
