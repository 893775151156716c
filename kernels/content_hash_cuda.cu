#include "kernels/content_hash.hpp"
#include "kernels/device_code.hpp"

namespace hadal::kernels {
namespace {

HADAL_BOTH std::uint64_t mixed(std::uint64_t place, float value) {
  std::uint64_t x = (place << 32 ^ place >> 32) ^ bits_of(value);
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

#ifdef __CUDACC__
__global__ void hash_all(const float* values, std::int64_t count, unsigned long long* hash) {
  unsigned long long own = 0;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    own ^= mixed(static_cast<std::uint64_t>(i), values[i]);
  }
  for (unsigned width = kSumLanes / 2; width > 0; width /= 2) {
    own ^= __shfl_down_sync(0xffffffffu, own, width);
  }
  if (threadIdx.x % kSumLanes == 0) atomicXor(hash, own);
}
#endif

}  // namespace

void content_hash(Stream stream, std::span<const float> values, std::uint64_t* hash) {
  const auto count = static_cast<std::int64_t>(values.size());
  if (count == 0) return;
#ifdef __CUDACC__
  if (stream.is_cuda()) {
    constexpr std::int64_t kEach = 64;  // values a thread, at least
    hash_all<<<groups(count, kEach * kThreads), kThreads, 0, cuda_stream(stream)>>>(
        values.data(), count, reinterpret_cast<unsigned long long*>(hash));
    return;
  }
#endif
  static_cast<void>(stream);
  for (std::int64_t i = 0; i < count; ++i) {
    *hash ^= mixed(static_cast<std::uint64_t>(i), values[static_cast<std::size_t>(i)]);
  }
}

}  // namespace hadal::kernels
