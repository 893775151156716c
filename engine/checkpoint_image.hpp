#pragma once
// Memory of a host in which the blocks of a checkpoint are put together by its ranks before one of
// them writes them, or taken apart after they were read. Each block is hashed by whoever completes
// it, while it is in that core's cache.

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "engine/comm/host_memory.hpp"

namespace hadal::engine {

class CheckpointImage {
 public:
  // Collective. `blocks` says how many there is room for.
  CheckpointImage(Communicator& comm,
                  const std::function<std::int64_t(const HostMemory::Hosts&)>& blocks);

  const HostMemory& host() const { return memory_; }
  void barrier() { memory_.barrier(); }
  std::int64_t capacity() const { return capacity_; }

  // A block's memory; page-aligned. Block n of a host has the place n % capacity().
  std::span<std::byte> block(std::int64_t number) const;

  // Copies a part of a block of `block_bytes` to its place. Any thread of any rank; each byte once.
  void put(std::int64_t number, std::int64_t offset, std::span<const std::byte> part,
           std::int64_t block_bytes);

  // Whether all of it is there; its hash then.
  bool is_whole(std::int64_t number) const;
  std::uint64_t hash(std::int64_t number) const;

  // For the writer: the place may be used again. Blocks are released in their order.
  void release(std::int64_t number);
  // How many blocks were released in the memory's life.
  std::int64_t released() const;

 private:
  struct Place;
  Place& place(std::int64_t number) const;
  std::atomic<std::int64_t>& released_count() const;

  std::int64_t capacity_ = 0;
  HostMemory memory_;
};

}  // namespace hadal::engine
