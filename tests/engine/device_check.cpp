#include "tests/engine/device_check.hpp"

#include <cmath>
#include <stdexcept>

#include "engine/device/device_reducer.hpp"
#include "io/sample_order.hpp"

namespace hadal::tests {
namespace {

using Lane = engine::Device::Lane;

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

// Of either sign and of many magnitudes, so that another order of additions shows.
float value_of(std::int64_t leaf, std::int64_t element) {
  const std::uint64_t random =
      io::mix(2, static_cast<std::uint64_t>(leaf), static_cast<std::uint64_t>(element));
  return std::ldexp(static_cast<float>(random >> 40) / 16777216.0f - 0.5f,
                    static_cast<int>(random % 20));
}

float tree_sum(const engine::Leaves& leaves, kernels::TreeNode node, std::int64_t element) {
  if (node.level == 0) return value_of(node.index, element);
  const kernels::TreeNode left{node.level - 1, 2 * node.index};
  if (!leaves.any(left)) return tree_sum(leaves, left.sibling(), element);
  if (!leaves.any(left.sibling())) return tree_sum(leaves, left, element);
  return tree_sum(leaves, left, element) + tree_sum(leaves, left.sibling(), element);
}

template <class T>
engine::DeviceArray<T> on_device(engine::Device& device, engine::DeviceCommunicator& messages,
                                 const std::vector<T>& values) {
  engine::DeviceArray<T> array(messages.allocate(values.size() * sizeof(T)), values.size());
  device.copy_now(array.bytes(), std::as_bytes(std::span(values)));
  return array;
}

template <class T>
std::vector<T> on_host(engine::Device& device, std::span<const T> values) {
  std::vector<T> copy(values.size());
  device.copy_now(std::as_writable_bytes(std::span(copy)), std::as_bytes(values));
  return copy;
}

}  // namespace

void check_device_messages(engine::Communicator& comm, engine::Device& device,
                           engine::DeviceCommunicator& messages) {
  const std::vector<std::size_t> sizes{0, 1, 100001, 17};
  const auto content = [](int from, int to, std::size_t size) {
    std::vector<float> values(size);
    for (std::size_t i = 0; i < size; ++i) {
      values[i] = static_cast<float>(from * 100 + to) + static_cast<float>(i % 1000) / 1024;
    }
    return values;
  };
  for (int round = 0; round < 3; ++round) {
    std::vector<engine::DeviceArray<float>> sent, received;
    std::vector<engine::Outgoing> out;
    std::vector<engine::Incoming> in;
    for (int peer = 0; peer < comm.size(); ++peer) {
      for (const std::size_t size : sizes) {
        sent.push_back(on_device(device, messages, content(comm.rank(), peer, size)));
        received.push_back(on_device(device, messages, std::vector<float>(size, -1)));
        if (peer == comm.rank()) continue;
        out.push_back({peer, sent.back().bytes()});
        in.push_back({peer, received.back().bytes()});
      }
    }
    messages.exchange(out, in, Lane::reduce);
    device.finish(Lane::reduce, [&] { messages.check(); });
    for (int peer = 0; peer < comm.size(); ++peer) {
      for (std::size_t s = 0; s < sizes.size() && peer != comm.rank(); ++s) {
        const auto& array = received[static_cast<std::size_t>(peer) * sizes.size() + s];
        require(on_host<float>(device, array.span()) == content(peer, comm.rank(), sizes[s]),
                "devices mix messages up");
      }
    }
  }
  std::vector<float> values(70001);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i % 1000) + static_cast<float>(comm.rank());
  }
  const auto array = on_device(device, messages, values);
  messages.all_reduce(array.span(), Lane::reduce);
  device.finish(Lane::reduce, [&] { messages.check(); });
  const std::vector<float> sums = on_host<float>(device, array.span());
  const int ranks = comm.size();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    require(
        sums[i] == static_cast<float>(ranks * static_cast<int>(i % 1000) + ranks * (ranks - 1) / 2),
        "a sum over devices is wrong");
  }
}

void check_device_reduction(engine::Communicator& comm, engine::Device& device,
                            engine::DeviceCommunicator& messages,
                            const std::vector<bool>& present) {
  const engine::ArenaLayout layout({{"a", {70, 70}}, {"b", {3}}, {"c", {9000}}},
                                   engine::ArenaLayout::Holds::trained,
                                   {.first = 1000, .later = 3000});  // four buckets
  const std::vector<engine::Share> shares = engine::shares(std::ssize(present), comm.size());
  const engine::Share mine = shares[static_cast<std::size_t>(comm.rank())];
  engine::DeviceReducer reducer(comm, device, messages, layout, shares);
  const engine::Leaves leaves(present);
  const kernels::TreeNode root = kernels::covering_nodes(0, leaves.padded()).front();
  const auto count = static_cast<std::size_t>(layout.size());
  std::vector<float> expected(count);
  for (std::size_t i = 0; i < count; ++i) {
    expected[i] = tree_sum(leaves, root, static_cast<std::int64_t>(i));
  }
  for (int round = 0; round < 2; ++round) {
    std::vector<engine::DeviceArray<float>> memory;
    std::vector<engine::GradientSource> own;
    for (std::int64_t leaf = mine.begin; leaf < mine.end; ++leaf) {
      if (!leaves.any(leaf, leaf + 1)) continue;
      std::vector<float> values(count);
      for (std::size_t i = 0; i < count; ++i) {
        values[i] = value_of(leaf, static_cast<std::int64_t>(i));
      }
      memory.push_back(on_device(device, messages, values));
      own.push_back({{0, leaf}, memory.back().data()});
    }
    if (memory.empty()) memory.push_back(on_device(device, messages, std::vector<float>(count)));
    const std::span<float> result = memory.front().span();
    reducer.reduce(leaves, own, {}, result);
    device.finish(Lane::reduce, [&] { messages.check(); });
    const std::vector<float> sums = on_host<float>(device, result);
    for (std::size_t b = 0; b < layout.bucket_count(); ++b) {
      const engine::ArenaSlice slice = layout.slice(b, comm.rank(), comm.size());
      for (auto i = static_cast<std::size_t>(slice.begin); i < static_cast<std::size_t>(slice.end);
           ++i) {
        require(sums[i] == expected[i], "a sum of devices has other bits");
      }
    }
    reducer.gather(result);
    device.finish(Lane::reduce, [&] { messages.check(); });
    require(on_host<float>(device, result) == expected, "what was gathered has other bits");
    comm.barrier();
  }
}

}  // namespace hadal::tests
