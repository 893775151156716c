#include "engine/device/device_array.hpp"
#include "engine/device/device_reducer.hpp"
#include "launch/reduce_contest.hpp"

namespace hadal::launch {
namespace {

using engine::Device;

constexpr auto kLane = Device::Lane::reduce;

std::vector<engine::Share> one_each(int ranks) {
  std::vector<engine::Share> shares;
  for (int rank = 0; rank < ranks; ++rank) shares.push_back({rank, rank + 1});
  return shares;
}

class DeviceReduceContest : public ReduceContest {
 public:
  DeviceReduceContest(engine::Communicator& comm, Device& device,
                      engine::DeviceCommunicator& messages, std::int64_t elements)
      : ReduceContest(comm),
        device_(device),
        messages_(messages),
        layout_({{"parameters", {elements}}}, engine::ArenaLayout::Holds::trained),
        leaves_(std::vector<bool>(static_cast<std::size_t>(ranks()), true)),
        reducer_(comm, device, messages, layout_, one_each(ranks())),
        host_(static_cast<std::size_t>(layout_.size())),
        gradient_(messages.allocate(host_.size() * sizeof(float)), host_.size()) {}

  std::vector<Contestant> contestants() override {
    return {{"canonical", [this] { return canonical(); }}, {"fast", [this] { return fast(); }}};
  }

 private:
  // All that a step does for it: the sum at its owners, and what they make of it to all ranks.
  double canonical() {
    fill();
    const std::vector<engine::GradientSource> own{{{0, rank()}, gradient_.data()}};
    return measure([&] {
      reducer_.reduce(leaves_, own, {}, gradient_.span());
      reducer_.gather(gradient_.span());
    });
  }

  double fast() {
    fill();
    return measure([&] {
      if (ranks() > 1) messages_.all_reduce(gradient_.span(), kLane);
    });
  }

  double measure(const std::function<void()>& queue) {
    const double seconds = timed([&] {
      queue();
      device_.finish(kLane, [this] { messages_.check(); });
    });
    device_.copy_now(std::as_writable_bytes(std::span(host_)), gradient_.bytes());
    for (std::size_t b = 0; b < layout_.bucket_count(); ++b) {
      count_wrong(host_, layout_.slice(b, 0, 1), layout_.parameter_count(), ranks());
    }
    return seconds;
  }

  void fill() {
    fill_gradient(host_, rank());
    device_.copy_now(gradient_.bytes(), std::as_bytes(std::span(host_)));
  }

  Device& device_;
  engine::DeviceCommunicator& messages_;
  engine::ArenaLayout layout_;
  engine::Leaves leaves_;
  engine::DeviceReducer reducer_;
  std::vector<float> host_;
  engine::DeviceArray<float> gradient_;
};

}  // namespace

std::unique_ptr<ReduceContest> device_reduce_contest(engine::Communicator& comm, Device& device,
                                                     engine::DeviceCommunicator& messages,
                                                     std::int64_t elements) {
  return std::make_unique<DeviceReduceContest>(comm, device, messages, elements);
}

}  // namespace hadal::launch
