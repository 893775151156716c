#include <vector>

#include "engine/aligned_buffer.hpp"
#include "engine/device/device_communicator.hpp"

namespace hadal::engine {
namespace {

class StagedCommunicator : public DeviceCommunicator {
 public:
  StagedCommunicator(Communicator& comm, Device& device) : comm_(comm), device_(device) {}

  std::string name() const override { return "host memory"; }
  bool blocks() const override { return true; }
  Device::Memory allocate(std::size_t bytes) override { return device_.allocate(bytes); }

  void exchange(std::span<const Outgoing> out, std::span<const Incoming> in,
                Device::Lane lane) override {
    std::vector<std::vector<std::byte>> sent, received;
    std::vector<Outgoing> host_out;
    std::vector<Incoming> host_in;
    for (const Outgoing& message : out) {
      device_.copy(lane, sent.emplace_back(message.bytes.size()), message.bytes);
      host_out.push_back({message.to, sent.back()});
    }
    for (const Incoming& message : in) {
      host_in.push_back({message.from, received.emplace_back(message.bytes.size())});
    }
    device_.finish(lane);
    comm_.exchange(host_out, host_in);
    for (std::size_t i = 0; i < in.size(); ++i) device_.copy(lane, in[i].bytes, received[i]);
    device_.finish(lane);
  }

  void all_reduce(std::span<float> values, Device::Lane lane) override {
    AlignedBuffer sum = AlignedBuffer::for_overwrite(std::ssize(values));
    device_.copy(lane, std::as_writable_bytes(sum.span()), std::as_bytes(values));
    device_.finish(lane);
    comm_.all_reduce(sum.span());
    device_.copy(lane, std::as_writable_bytes(values), std::as_bytes(sum.span()));
    device_.finish(lane);
  }

 private:
  Communicator& comm_;
  Device& device_;
};

}  // namespace

std::unique_ptr<DeviceCommunicator> staged_communicator(Communicator& comm, Device& device) {
  return std::make_unique<StagedCommunicator>(comm, device);
}

}  // namespace hadal::engine
