#pragma once
// A repair of libtorch (2.11) on CPUs. In bfloat16 the gradient of a convolution's weight is left
// unwritten where a place of the kernel never meets the image (3 x 3 over one pixel, for one): what
// the memory held before, where PyTorch says zero.

namespace hadal::engine {

// Once and for all, for this process: such places are zero. Before the first backward pass.
void repair_convolution_gradient();

}  // namespace hadal::engine
