#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/device/device.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kBoundary = 256;

struct TwinGraph : Device::Graph {
  explicit TwinGraph(std::function<void()> b) : body(std::move(b)) {}
  void replay() override { body(); }
  std::function<void()> body;
};

class TwinDevice : public Device {
 public:
  std::string name() const override { return "twin of a GPU on the host"; }
  c10::Device tensors() const override { return at::kCPU; }
  at::Generator& generator() override { return generator_; }
  kernels::Stream stream(Lane) const override { return kernels::Stream::host(); }
  std::unique_ptr<Region> enter(Lane) override { return std::make_unique<Region>(); }

  Memory allocate(std::size_t bytes) override {
    const std::size_t whole =
        std::max((bytes + kBoundary - 1) / kBoundary, std::size_t{1}) * kBoundary;
    auto* const memory = static_cast<std::byte*>(std::aligned_alloc(kBoundary, whole));
    if (memory == nullptr) throw std::bad_alloc();
    std::memset(memory, 0, whole);
    return {memory, [](std::byte* m) { std::free(m); }};
  }
  Memory allocate_host(std::size_t bytes) override { return allocate(bytes); }
  Room room() const override {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return {static_cast<std::size_t>(::sysconf(_SC_AVPHYS_PAGES)) * page,
            static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) * page};
  }

  std::shared_ptr<void> pin(std::span<std::byte>) override { return nullptr; }

  void copy(Lane, std::span<std::byte> to, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
  }
  void clear(Lane, std::span<std::byte> memory) override {
    if (!memory.empty()) std::memset(memory.data(), 0, memory.size());
  }
  Mark mark(Lane) override { return {}; }
  void wait(Lane, const Mark&) override {}
  bool reached(const Mark&) override { return true; }
  std::unique_ptr<Graph> record(const std::function<void()>& body, std::string&) override {
    body();
    return std::make_unique<TwinGraph>(body);
  }

 private:
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>();
};

}  // namespace

std::unique_ptr<Device> twin_device() { return std::make_unique<TwinDevice>(); }

}  // namespace hadal::engine
