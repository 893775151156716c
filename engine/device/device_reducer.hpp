#pragma once
// The canonical reduction between devices: every rank's nodes of the gradient tree become the
// step's gradient, slice by slice at its owner; afterwards the owners' updated slices are
// everybody's parameters. All of it is queued in the reduce lane, group of buckets after group,
// each as soon as backward is through with it; the host waits for nothing.
//
// Where each rank holds one node of the same level, the sums go by recursive halving as far as the
// number of ranks is even: neighbours in the tree exchange halves, then neighbours of neighbours
// quarters, and what is left goes to its owners at once; the parameters come back the same way.
// Ranks of one host are neighbours, so the large halves stay on NVLink and only 1 / (ranks a host)
// of the arena crosses the network. Otherwise every rank sends its nodes to all owners. Both give
// the same bits. With a rounding, parts are rounded when they are whole, and go to the owners in
// bfloat16.

#include <span>
#include <vector>

#include "engine/arena.hpp"
#include "engine/device/device_communicator.hpp"
#include "engine/device/device_rounding.hpp"
#include "engine/device/device_sum.hpp"

namespace hadal::engine {

class DeviceReducer {
 public:
  // All arguments must outlive it; `shares[r]` are the micro-batches of rank r.
  DeviceReducer(Communicator& comm, Device& device, DeviceCommunicator& messages,
                const ArenaLayout& layout, std::vector<Share> shares,
                const DeviceRounding* rounding = nullptr);

  // Collective. `own` are this rank's nodes; the slices that this rank owns of `result`, which may
  // be the memory of one of them, get the sum over all ranks. The other sources' memory is garbage
  // afterwards. Bucket b of the sources is there once `ready[b]` is reached; none: all are.
  void reduce(const Leaves& leaves, std::span<const GradientSource> own,
              std::span<const Device::Mark> ready, std::span<float> result);

  // Collective. The same in whatever order the library adds up; each rank's own sources first.
  // Without sources it has none to add.
  void reduce_fast(std::span<const GradientSource> own, std::span<const Device::Mark> ready,
                   std::span<float> result);

  // Collective. Every rank's owned slices of `arena` to all ranks.
  template <class T>
  void gather(std::span<T> arena);

  // Bytes that this rank has sent since the last call.
  std::int64_t take_sent_bytes() { return std::exchange(sent_bytes_, 0); }

 private:
  // Buckets [first, last), which travel together.
  struct Group {
    std::size_t first = 0;
    std::size_t last = 0;
  };
  // Messages of one exchange.
  struct Letters {
    std::vector<Outgoing> out;
    std::vector<Incoming> in;
  };
  // Received in bfloat16.
  struct Widening {
    std::span<float> values;
    std::span<const std::uint16_t> halves;
  };

  int rank() const { return comm_.rank(); }
  int ranks() const { return comm_.size(); }
  void await(const Group& group, std::span<const Device::Mark> ready);
  std::span<float> of_group(const Group& group, std::span<float> arena) const;
  bool can_halve(const Leaves& leaves) const;
  void halve(const Group& group, std::span<float> result);
  std::vector<GradientSource> whole_nodes(const Group& group, const Leaves& leaves,
                                          std::span<const GradientSource> own);
  // In the following, owners are the ranks at multiples of `near` from this one: with 1 all.
  void send_to_owners(const Group& group, const Leaves& leaves, int near,
                      const std::vector<GradientSource>& nodes, std::span<float> result);
  std::vector<kernels::TreeNode> nodes_of(const Leaves& leaves, int rank, int near) const;
  void make_room(const Group& group, const Leaves& leaves, int near,
                 std::span<const GradientSource> nodes);
  void write_to_owners(const Group& group, int near, std::span<const GradientSource> nodes,
                       Letters& letters);
  void await_nodes(const Group& group, const Leaves& leaves, int near, Letters& letters,
                   std::vector<Widening>& widenings,
                   std::vector<std::vector<GradientSource>>& sources);
  std::vector<GradientSource> with_parts(const Group& group, const Leaves& leaves,
                                         std::span<const GradientSource> own);
  GradientSource joined(const Group& group, const Leaves& leaves, kernels::TreeNode node,
                        std::span<const GradientSource> own);
  bool is_half(kernels::TreeNode node) const {
    return rounding_ != nullptr && rounding_->is_part(node);
  }
  void exchange(const Letters& letters);
  std::int64_t elements(const Group& group) const;

  Communicator& comm_;
  Device& device_;
  DeviceCommunicator& messages_;
  const ArenaLayout& layout_;
  std::vector<Share> shares_;
  const DeviceRounding* rounding_;
  DeviceSum sum_;
  std::vector<Group> groups_;
  DeviceArray<float> received_;
  // Parts on their way, in bfloat16.
  DeviceArray<std::uint16_t> halves_sent_;
  DeviceArray<std::uint16_t> halves_received_;
  std::int64_t sent_bytes_ = 0;
};

}  // namespace hadal::engine
