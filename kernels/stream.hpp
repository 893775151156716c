#pragma once
// Where the work of a GPU is queued. Every operation that a GPU has a kernel for takes a stream
// first; it returns at once, and what is in one stream happens in order. A stream of the host is
// the GPU's twin: the very functions that the kernels are made of, called for one element after the
// other on the calling thread, over host memory. So everything but the hardware is tested anywhere.
// Errors of CUDA show where somebody waits for the stream.

namespace hadal::kernels {

class Stream {
 public:
  static Stream host() { return {}; }
  // A cudaStream_t; null is CUDA's default stream.
  static Stream cuda(void* stream) { return Stream(stream); }

  bool is_cuda() const { return is_cuda_; }
  void* handle() const { return handle_; }

 private:
  Stream() = default;
  explicit Stream(void* handle) : is_cuda_(true), handle_(handle) {}
  bool is_cuda_ = false;
  void* handle_ = nullptr;
};

}  // namespace hadal::kernels
