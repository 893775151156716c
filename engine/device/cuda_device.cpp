#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "engine/device/device.hpp"
#include "engine/device/device_communicator.hpp"
#include "io/error.hpp"

namespace hadal::engine {
namespace {

void check(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  throw io::Error(io::ErrorKind::launch,
                  fmt::format("{} failed: {} ({})", call, ::cudaGetErrorString(code),
                              ::cudaGetErrorName(code)));
}
#define HADAL_CHECK_CUDA(call) check(call, #call)

// Without its links to others.
CudaFacts own_facts(int ordinal) {
  cudaDeviceProp told{};
  HADAL_CHECK_CUDA(::cudaGetDeviceProperties(&told, ordinal));
  return {.name = told.name,
          .capability = 10 * told.major + told.minor,
          .bytes = told.totalGlobalMem,
          .reaches = {},
          .linked = {}};
}

class CudaRegion : public Device::Region {
 public:
  explicit CudaRegion(const c10::cuda::CUDAStream& stream) : guard_(stream) {}

 private:
  c10::cuda::CUDAStreamGuard guard_;
};

// Its events go back to the device's after the recording that holds them has gone.
struct CudaGraph : Device::Graph {
  explicit CudaGraph(c10::cuda::CUDAStream s) : stream(s) {}
  void replay() override {
    const c10::cuda::CUDAStreamGuard here(stream);
    recording.replay();
  }
  c10::cuda::CUDAStream stream;
  std::vector<Device::Mark> marks;
  at::cuda::CUDAGraph recording;
};

class CudaDevice : public Device {
 public:
  CudaDevice(int ordinal, const DeviceOptions& options)
      : ordinal_(static_cast<c10::DeviceIndex>(ordinal)) {
    HADAL_CHECK_CUDA(::cudaSetDevice(ordinal));
    set_up_torch(options);
    // Messages go first: others wait for them.
    streams_ = {c10::cuda::getStreamFromPool(false, ordinal_),
                c10::cuda::getStreamFromPool(true, ordinal_),
                c10::cuda::getStreamFromPool(false, ordinal_)};
    generator_ = at::cuda::detail::getDefaultCUDAGenerator(ordinal_);
  }
  ~CudaDevice() override {
    for (cudaEvent_t event : idle_) ::cudaEventDestroy(event);
  }

  std::string name() const override { return own_facts(ordinal_).name; }
  c10::Device tensors() const override { return {at::kCUDA, ordinal_}; }
  at::Generator& generator() override { return generator_; }
  kernels::Stream stream(Lane lane) const override { return kernels::Stream::cuda(raw(lane)); }
  std::unique_ptr<Region> enter(Lane lane) override {
    return std::make_unique<CudaRegion>(streams_[static_cast<std::size_t>(lane)]);
  }

  Memory allocate(std::size_t bytes) override {
    const c10::cuda::CUDAGuard here(ordinal_);
    void* memory = nullptr;
    if (::cudaMalloc(&memory, std::max<std::size_t>(bytes, 1)) != cudaSuccess) {
      static_cast<void>(::cudaGetLastError());
      throw io::Error(io::ErrorKind::launch,
                      fmt::format("the GPU has no {} MiB left ({} MiB are free): use a smaller "
                                  "train.micro_batch, or more ranks",
                                  bytes >> 20, room().free >> 20));
    }
    HADAL_CHECK_CUDA(::cudaMemset(memory, 0, bytes));
    HADAL_CHECK_CUDA(::cudaDeviceSynchronize());
    return {static_cast<std::byte*>(memory), [](std::byte* m) { ::cudaFree(m); }};
  }
  Memory allocate_host(std::size_t bytes) override {
    const c10::cuda::CUDAGuard here(ordinal_);
    void* memory = nullptr;
    HADAL_CHECK_CUDA(
        ::cudaHostAlloc(&memory, std::max<std::size_t>(bytes, 1), cudaHostAllocPortable));
    std::memset(memory, 0, bytes);
    return {static_cast<std::byte*>(memory), [](std::byte* m) { ::cudaFreeHost(m); }};
  }
  Room room() const override {
    const c10::cuda::CUDAGuard here(ordinal_);
    Room room;
    HADAL_CHECK_CUDA(::cudaMemGetInfo(&room.free, &room.all));
    return room;
  }

  std::shared_ptr<void> pin(std::span<std::byte> host) override {
    if (host.empty()) return nullptr;
    const c10::cuda::CUDAGuard here(ordinal_);
    if (::cudaHostRegister(host.data(), host.size(), cudaHostRegisterPortable) != cudaSuccess) {
      static_cast<void>(::cudaGetLastError());
      return nullptr;
    }
    return {host.data(), [](void* memory) { ::cudaHostUnregister(memory); }};
  }

  void copy(Lane lane, std::span<std::byte> to, std::span<const std::byte> from) override {
    if (from.empty()) return;
    HADAL_CHECK_CUDA(
        ::cudaMemcpyAsync(to.data(), from.data(), from.size(), cudaMemcpyDefault, raw(lane)));
  }

  void clear(Lane lane, std::span<std::byte> memory) override {
    HADAL_CHECK_CUDA(::cudaMemsetAsync(memory.data(), 0, memory.size(), raw(lane)));
  }

  Mark mark(Lane lane) override {
    const c10::cuda::CUDAGuard here(ordinal_);
    const cudaEvent_t event = take_event();
    Mark mark(event, [this](void* e) { give_back(static_cast<cudaEvent_t>(e)); });
    CudaGraph* const graph = lane == Lane::compute ? recording_.load() : nullptr;
    if (graph == nullptr) {
      HADAL_CHECK_CUDA(::cudaEventRecord(event, raw(lane)));
    } else {
      // One that others can wait for, outside of the recording.
      HADAL_CHECK_CUDA(::cudaEventRecordWithFlags(event, raw(lane), cudaEventRecordExternal));
      graph->marks.push_back(mark);
    }
    return mark;
  }
  void wait(Lane lane, const Mark& mark) override {
    if (mark) HADAL_CHECK_CUDA(::cudaStreamWaitEvent(raw(lane), event_of(mark), 0));
  }
  bool reached(const Mark& mark) override {
    if (!mark) return true;
    const cudaError_t state = ::cudaEventQuery(event_of(mark));
    if (state == cudaErrorNotReady) return false;
    HADAL_CHECK_CUDA(state);
    return true;
  }

  // What libtorch takes in between lies in memory of the recordings' own; they take turns in it,
  // and nothing of it outlives a replay.
  std::unique_ptr<Graph> record(const std::function<void()>& body, std::string& trouble) override {
    const auto region = enter(Lane::compute);
    // Memory that lies idle cannot be given back while a recording is made.
    HADAL_CHECK_CUDA(::cudaStreamSynchronize(raw(Lane::compute)));
    c10::cuda::CUDACachingAllocator::emptyCache();
    auto graph = std::make_unique<CudaGraph>(streams_[static_cast<std::size_t>(Lane::compute)]);
    recording_ = graph.get();
    try {
      graph->recording.capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
      body();
      graph->recording.capture_end();
      recording_ = nullptr;
      return graph;
    } catch (const c10::Error& error) {
      trouble = error.what_without_backtrace();
    } catch (const io::Error& error) {
      trouble = error.what();
    }
    recording_ = nullptr;
    give_up_recording();
    trouble = trouble.substr(0, trouble.find('\n'));
    return nullptr;
  }

 private:
  // libtorch leaves the stream, its allocator and its generator in the middle of a recording that
  // fails.
  void give_up_recording() {
    cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
    static_cast<void>(::cudaStreamIsCapturing(raw(Lane::compute), &state));
    if (state != cudaStreamCaptureStatusNone) {
      cudaGraph_t rest = nullptr;
      static_cast<void>(::cudaStreamEndCapture(raw(Lane::compute), &rest));
      if (rest != nullptr) static_cast<void>(::cudaGraphDestroy(rest));
    }
    static_cast<void>(::cudaGetLastError());
    for (auto* const end : {&c10::cuda::CUDACachingAllocator::endAllocateToPool,
                            &c10::cuda::CUDACachingAllocator::releasePool}) {
      try {
        end(ordinal_, pool_);
      } catch (const c10::Error&) {
        // It has come as far as that by itself.
      }
    }
    generator_.graphsafe_set_state(at::cuda::detail::createCUDAGenerator(ordinal_));
  }

  // cuBLAS gives the same bits from run to run only with a workspace of a fixed size (its manual,
  // "Results Reproducibility"); it reads the variable when it starts.
  static void set_up_torch(const DeviceOptions& options) {
    at::Context& torch = at::globalContext();
    if (options.deterministic) {
      ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
      torch.setDeterministicCuDNN(true);
      torch.setBenchmarkCuDNN(false);
      torch.setDeterministicAlgorithms(true, /*warn_only=*/false);
      // Memory that operators leave unwritten must not be filled first: nobody reads it.
      torch.setDeterministicFillUninitializedMemory(false);
    } else {
      torch.setBenchmarkCuDNN(true);
    }
    torch.setAllowTF32CuBLAS(options.tensor_float32);
    torch.setAllowTF32CuDNN(options.tensor_float32);
  }

  cudaStream_t raw(Lane lane) const { return streams_[static_cast<std::size_t>(lane)].stream(); }
  static cudaEvent_t event_of(const Mark& mark) { return static_cast<cudaEvent_t>(mark.get()); }

  cudaEvent_t take_event() {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      const cudaEvent_t event = idle_.back();
      idle_.pop_back();
      return event;
    }
    cudaEvent_t event = nullptr;
    HADAL_CHECK_CUDA(::cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  void give_back(cudaEvent_t event) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(event);
  }

  c10::DeviceIndex ordinal_;
  std::array<c10::cuda::CUDAStream, 3> streams_{c10::cuda::getDefaultCUDAStream(),
                                                c10::cuda::getDefaultCUDAStream(),
                                                c10::cuda::getDefaultCUDAStream()};
  at::Generator generator_;
  c10::MempoolId_t pool_ = at::cuda::graph_pool_handle();  // of recordings
  std::atomic<CudaGraph*> recording_{nullptr};             // that is being made
  std::mutex mutex_;
  std::vector<cudaEvent_t> idle_;  // events that nobody has marked with
};

}  // namespace

std::unique_ptr<Device> cuda_device(int ordinal, const DeviceOptions& options) {
  const int count = cuda_device_count();
  if (count == 0) {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("no GPU can be used here ({}); set run.device = \"cpu\" to go without",
                    cuda_trouble()));
  }
  if (ordinal >= count) {
    throw io::Error(io::ErrorKind::launch,
                    fmt::format("GPU {} is wanted, this process sees {}", ordinal, count));
  }
  const CudaFacts facts = own_facts(ordinal);
  if (facts.capability < cuda_oldest_capability()) {
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("{} has compute capability {}.{}, this program begins with {}.{}: build it "
                    "with an older CUDA and -DHADAL_CUDA_ARCHITECTURES={}, or set run.device = "
                    "\"cpu\"",
                    facts.name, facts.capability / 10, facts.capability % 10,
                    cuda_oldest_capability() / 10, cuda_oldest_capability() % 10,
                    facts.capability));
  }
  return std::make_unique<CudaDevice>(ordinal, options);
}

int cuda_device_count() {
  int count = 0;
  if (::cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(::cudaGetLastError());
  return 0;
}

std::string cuda_device_address(int ordinal) {
  std::array<char, 32> text{};
  const cudaError_t code =
      ::cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), ordinal);
  return code == cudaSuccess ? std::string(text.data()) : std::string();
}

CudaFacts cuda_device_facts(int ordinal) {
  CudaFacts facts = own_facts(ordinal);
  for (int other = 0; other < cuda_device_count(); ++other) {
    int reaches = other == ordinal, atomics = other == ordinal;
    if (other != ordinal) {
      HADAL_CHECK_CUDA(::cudaDeviceCanAccessPeer(&reaches, ordinal, other));
      HADAL_CHECK_CUDA(::cudaDeviceGetP2PAttribute(&atomics, cudaDevP2PAttrNativeAtomicSupported,
                                                   ordinal, other));
    }
    facts.reaches.push_back(reaches != 0);
    facts.linked.push_back(atomics != 0);
  }
  return facts;
}

int cuda_oldest_capability() { return HADAL_CUDA_OLDEST; }

std::string cuda_versions() {
  int built = 0;
  ::cudaRuntimeGetVersion(&built);
  std::string versions = fmt::format("CUDA {}.{}", built / 1000, built % 1000 / 10);
  if (has_nccl()) versions += ", NCCL " + nccl_version();
  return versions;
}

std::string cuda_trouble() {
  int count = 0;
  const cudaError_t code = ::cudaGetDeviceCount(&count);
  static_cast<void>(::cudaGetLastError());
  if (code == cudaSuccess) return count > 0 ? "" : "there is none";
  int driver = 0, built = 0;
  ::cudaDriverGetVersion(&driver);
  ::cudaRuntimeGetVersion(&built);
  if (driver == 0) return "there is no NVIDIA driver";
  if (code == cudaErrorInsufficientDriver) {
    return fmt::format("the driver knows CUDA {}.{}, this program wants {}.{}", driver / 1000,
                       driver % 1000 / 10, built / 1000, built % 1000 / 10);
  }
  return ::cudaGetErrorString(code);
}

}  // namespace hadal::engine
