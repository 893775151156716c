#pragma once
// The place where a rank computes, if it is not the host's cores: memory and streams of its own.
// One thread queues, the device works. Two kinds: a CUDA device, and its twin on the host, which
// does at once on the calling thread what a device would be told to do: so all code above this
// interface runs where there is no GPU.

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "engine/device/device_choice.hpp"
#include "kernels/stream.hpp"

namespace at {
struct Generator;
}
namespace c10 {
struct Device;
}

namespace hadal::engine {

class Device {
 public:
  // Streams, beside each other: forward, backward and update; sums and messages between ranks;
  // batches on their way to the device.
  enum class Lane { compute, reduce, transfer };
  // A place in a lane, once it is reached.
  using Mark = std::shared_ptr<void>;
  // While it lives, what the calling thread asks of libtorch goes to this device and lane.
  struct Region {
    virtual ~Region() = default;
  };
  using Memory = std::shared_ptr<std::byte>;

  virtual ~Device() = default;

  // As its maker calls it.
  virtual std::string name() const = 0;
  // Where libtorch keeps tensors that lie on it.
  virtual c10::Device tensors() const = 0;
  // Draws the random numbers of what is computed on it. Seeded by whoever computes.
  virtual at::Generator& generator() = 0;
  virtual kernels::Stream stream(Lane lane) const = 0;
  [[nodiscard]] virtual std::unique_ptr<Region> enter(Lane lane) = 0;

  // Zeros, at a boundary of 256 bytes. Throws a launch error where there is too little.
  virtual Memory allocate(std::size_t bytes) = 0;
  // Memory of the host that copies to and from the device go on beside the host with.
  virtual Memory allocate_host(std::size_t bytes) = 0;
  // Bytes free and in all.
  struct Room {
    std::size_t free = 0;
    std::size_t all = 0;
  };
  virtual Room room() const = 0;

  // While it is kept, this memory of the host is copied at full speed, where the system allows it.
  [[nodiscard]] virtual std::shared_ptr<void> pin(std::span<std::byte> host) = 0;

  // In the lane; either side may be the host's. Memory of the host must stay until it is done.
  virtual void copy(Lane lane, std::span<std::byte> to, std::span<const std::byte> from) = 0;

  // Zeros, in the lane.
  virtual void clear(Lane lane, std::span<std::byte> memory) = 0;

  virtual Mark mark(Lane lane) = 0;
  // What is queued in the lane from now on comes after the mark.
  virtual void wait(Lane lane, const Mark& mark) = 0;
  // Whether it has been reached. Throws where the device has failed.
  virtual bool reached(const Mark& mark) = 0;

  // Calls that were queued into the compute lane, to be queued again as one.
  struct Graph {
    virtual ~Graph() = default;
    virtual void replay() = 0;
  };
  // Has `body` queue into the compute lane, where nothing is done then but at each replay, with the
  // memory that was there (the twin does it twice). Marks that it sets are reached anew by each
  // replay. Null, and why, where something in it cannot be recorded.
  virtual std::unique_ptr<Graph> record(const std::function<void()>& body,
                                        std::string& trouble) = 0;

  // The host waits for the mark, looking after `meanwhile` (which throws where waiting is in vain).
  void wait(const Mark& mark, const std::function<void()>& meanwhile = {});
  // The host waits for all that is in the lane.
  void finish(Lane lane, const std::function<void()>& meanwhile = {}) {
    wait(mark(lane), meanwhile);
  }
  // copy() to the host or from it, and waits.
  void copy_now(std::span<std::byte> to, std::span<const std::byte> from);
};

struct DeviceOptions {
  bool deterministic = true;  // no algorithm whose bits differ from run to run
  bool tensor_float32 = false;
};

// Null for the host's cores. Throws a launch error where this build or this host has no such
// device. Sets up libtorch for it: for this process, once.
std::unique_ptr<Device> open_device(const DeviceChoice& choice, const DeviceOptions& options);

// The kinds; the first is of cuda_device.cpp, or of no_cuda.cpp in builds without CUDA.
std::unique_ptr<Device> cuda_device(int ordinal, const DeviceOptions& options);
std::unique_ptr<Device> twin_device();

}  // namespace hadal::engine
