#include "engine/checkpoint_image.hpp"

#include <algorithm>
#include <cstring>

#include "io/block_file.hpp"
#include "io/hashing_file.hpp"
#include "kernels/streamed_copy.hpp"

namespace hadal::engine {
namespace {

constexpr auto kBlock = static_cast<std::size_t>(io::kFileBlockBytes);

}  // namespace

// What ranks tell each other of a block.
struct CheckpointImage::Place {
  std::atomic<std::int64_t> filled;  // bytes
  std::atomic<std::uint64_t> hash;
  std::atomic<std::uint32_t> whole;
};

// The blocks, then their places, then the count of those released.
CheckpointImage::CheckpointImage(
    Communicator& comm, const std::function<std::int64_t(const HostMemory::Hosts&)>& blocks)
    : memory_(comm, [&](const HostMemory::Hosts& hosts) {
        capacity_ = std::max<std::int64_t>(blocks(hosts), 1);
        return HostMemory::Sizes{
            .common = static_cast<std::size_t>(capacity_) * (kBlock + sizeof(Place)) +
                      sizeof(std::atomic<std::int64_t>),
            .part = 0};
      }) {}

std::span<std::byte> CheckpointImage::block(std::int64_t number) const {
  return memory_.common().subspan(static_cast<std::size_t>(number % capacity_) * kBlock, kBlock);
}

CheckpointImage::Place& CheckpointImage::place(std::int64_t number) const {
  auto* const places = reinterpret_cast<Place*>(memory_.common().data() +
                                                static_cast<std::size_t>(capacity_) * kBlock);
  return places[number % capacity_];
}

std::atomic<std::int64_t>& CheckpointImage::released_count() const {
  return *reinterpret_cast<std::atomic<std::int64_t>*>(&place(capacity_ - 1) + 1);
}

void CheckpointImage::put(std::int64_t number, std::int64_t offset, std::span<const std::byte> part,
                          std::int64_t block_bytes) {
  const std::span<std::byte> whole = block(number);
  Place& its = place(number);
  const auto complete = [&](std::span<const std::byte> bytes) {
    its.hash.store(io::hash_bytes(bytes), std::memory_order_relaxed);
  };
  if (std::ssize(part) == block_bytes) {
    // Most blocks of a large model: read once, written once.
    complete(part);
    kernels::streamed_copy(whole.first(part.size()), part);
  } else {
    std::memcpy(whole.data() + offset, part.data(), part.size());
    const std::int64_t before = its.filled.fetch_add(std::ssize(part), std::memory_order_acq_rel);
    if (before + std::ssize(part) != block_bytes) return;
    complete(whole.first(static_cast<std::size_t>(block_bytes)));
  }
  its.whole.store(1, std::memory_order_release);
}

bool CheckpointImage::is_whole(std::int64_t number) const {
  return place(number).whole.load(std::memory_order_acquire) != 0;
}

std::uint64_t CheckpointImage::hash(std::int64_t number) const {
  return place(number).hash.load(std::memory_order_relaxed);
}

void CheckpointImage::release(std::int64_t number) {
  Place& its = place(number);
  its.filled.store(0, std::memory_order_relaxed);
  its.whole.store(0, std::memory_order_relaxed);
  released_count().fetch_add(1, std::memory_order_release);
}

std::int64_t CheckpointImage::released() const {
  return released_count().load(std::memory_order_acquire);
}

}  // namespace hadal::engine
