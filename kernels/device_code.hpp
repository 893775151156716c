#pragma once
// What the files X_cuda.cu are written in. nvcc makes GPU kernels of the functors they define; any
// C++ compiler makes loops over the same functors, which is all there is in a build without CUDA.
// A functor has `run<N>(…)`, which treats N elements in a row: four where memory allows loads of 16
// bytes, else one; elements are independent, so their number changes no bit.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/blocks.hpp"
#include "kernels/stream.hpp"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define HADAL_BOTH __host__ __device__ __forceinline__
#else
#define HADAL_BOTH inline
#endif

namespace hadal::kernels {

// N values that a thread loads or stores at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

template <int N, class T>
HADAL_BOTH Pack<T, N> load(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <int N, class T>
HADAL_BOTH void store(const Pack<T, N>& values, T* to) {
  *reinterpret_cast<Pack<T, N>*>(to) = values;
}

// Whether loads of four elements are allowed at all of these places; null is.
template <class... T>
bool is_aligned(const T*... places) {
  return ((reinterpret_cast<std::uintptr_t>(places) % (4 * sizeof(T)) == 0) && ...);
}

// a * b + c with one rounding.
HADAL_BOTH float fused(float a, float b, float c) { return fmaf(a, b, c); }

HADAL_BOTH std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Lanes of a block's sum (kernels/norm.hpp).
inline constexpr int kSumLanes = 32;

#ifdef __CUDACC__
inline constexpr unsigned kThreads = 256;

inline cudaStream_t cuda_stream(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle());
}

template <int N, class Body>
__global__ void run_elements(std::int64_t count, Body body) {
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
  if (first + N <= count) {
    body.template run<N>(first);
  } else {
    for (std::int64_t i = first; i < count; ++i) body.template run<1>(i);
  }
}

template <int N, class Body>
__global__ void run_blocks(BlockTable table, Body body) {
  const Block block = table.blocks[blockIdx.x];
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x) * N; i < block.count;
       i += static_cast<std::int32_t>(blockDim.x) * N) {
    if (i + N <= block.count) {
      body.template run<N>(block, i);
    } else {
      for (std::int32_t k = i; k < block.count; ++k) body.template run<1>(block, k);
    }
  }
}

// One warp a block, joined as norm.hpp says.
template <class Body>
__global__ void run_sums(BlockTable table, Body body, double* sums, int stride) {
  const std::int64_t number =
      (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kSumLanes;
  if (number >= table.count) return;
  const int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  double sum = body.lane(table.blocks[number], lane);
  for (int width = kSumLanes / 2; width > 0; width /= 2) {
    sum += __shfl_down_sync(0xffffffffu, sum, static_cast<unsigned>(width));
  }
  if (lane == 0) sums[number * stride] = sum;
}

inline unsigned groups(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
#endif

// body.run<N>(i) for every element below `count`; `aligned` says that N may be four.
template <class Body>
void for_each_element(Stream stream, std::int64_t count, bool aligned, const Body& body) {
  if (count == 0) return;
#ifdef __CUDACC__
  if (stream.is_cuda()) {
    if (aligned) {
      run_elements<4>
          <<<groups(count, 4 * kThreads), kThreads, 0, cuda_stream(stream)>>>(count, body);
    } else {
      run_elements<1><<<groups(count, kThreads), kThreads, 0, cuda_stream(stream)>>>(count, body);
    }
    return;
  }
#endif
  static_cast<void>(stream);
  std::int64_t i = 0;
  for (; aligned && i + 4 <= count; i += 4) body.template run<4>(i);
  for (; i < count; ++i) body.template run<1>(i);
}

// body.run<N>(block, i) for every element i of every block of the table.
template <class Body>
void for_each_in_blocks(Stream stream, BlockTable table, bool aligned, const Body& body) {
  if (table.count == 0) return;
#ifdef __CUDACC__
  if (stream.is_cuda()) {
    const auto blocks = static_cast<unsigned>(table.count);
    if (aligned) {
      run_blocks<4><<<blocks, kThreads, 0, cuda_stream(stream)>>>(table, body);
    } else {
      run_blocks<1><<<blocks, kThreads, 0, cuda_stream(stream)>>>(table, body);
    }
    return;
  }
#endif
  static_cast<void>(stream);
  for (std::int64_t b = 0; b < table.count; ++b) {
    const Block& block = table.blocks[b];
    std::int32_t i = 0;
    for (; aligned && i + 4 <= block.count; i += 4) body.template run<4>(block, i);
    for (; i < block.count; ++i) body.template run<1>(block, i);
  }
}

// sums[stride * b] = body.lane(block b, lane) over the lanes, joined pairwise: in the shape of
// sum_of_squares().
template <class Body>
void sum_blocks(Stream stream, BlockTable table, const Body& body, double* sums, int stride) {
  if (table.count == 0) return;
#ifdef __CUDACC__
  if (stream.is_cuda()) {
    run_sums<<<groups(table.count * kSumLanes, kThreads), kThreads, 0, cuda_stream(stream)>>>(
        table, body, sums, stride);
    return;
  }
#endif
  static_cast<void>(stream);
  for (std::int64_t b = 0; b < table.count; ++b) {
    double lanes[kSumLanes];
    for (int lane = 0; lane < kSumLanes; ++lane) lanes[lane] = body.lane(table.blocks[b], lane);
    for (int width = kSumLanes / 2; width > 0; width /= 2) {
      for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    sums[b * stride] = lanes[0];
  }
}

}  // namespace hadal::kernels
