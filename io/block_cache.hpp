#pragma once
// Blocks of stored rows in memory, shared by all reading threads. The bound on their memory never
// changes what is read, only how often.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>

#include "io/recycled_bytes.hpp"

namespace hadal::io {

class Block {
 public:
  std::span<std::byte> allocate(std::size_t bytes) {
    bytes_.resize(bytes);
    return bytes_;
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class BlockCache;
  enum class State { claimed, ready, failed };
  RecycledBytes bytes_;
  State state_ = State::claimed;  // and what follows, under the cache's lock
  std::exception_ptr failure_;
};

class BlockCache {
 public:
  struct Key {
    std::uint32_t field = 0;
    std::uint32_t part = 0;
    std::int64_t number = 0;
    bool operator==(const Key&) const = default;
  };

  // Blocks that someone holds stay; of the others the last used ones, up to `bytes` in all.
  explicit BlockCache(std::int64_t bytes) : limit_(bytes) {}

  // The block, and whether the caller has claimed it: then it must fill it and call publish() or
  // fail(), before it waits for others' blocks.
  struct Found {
    std::shared_ptr<Block> block;
    bool claimed = false;
  };
  Found find_or_claim(const Key& key);
  void publish(const Key& key);
  // Whoever waits gets the exception; who asks later may try again.
  void fail(const Key& key, std::exception_ptr failure);
  // Fills blocks that somebody has queued until `block` is filled, by whomever. Rethrows what it
  // failed for.
  void wait(const Block& block);
  // Work on a claimed block that any waiting thread may do: publish() or fail().
  void queue(std::function<void()> fill);

 private:
  struct Hash {
    std::size_t operator()(const Key& key) const {
      return static_cast<std::size_t>((key.number * 64 + key.field) * 0x9E3779B97F4A7C15 +
                                      key.part * 0xC2B2AE3D27D4EB4F);
    }
  };
  struct Entry {
    Key key;
    std::shared_ptr<Block> block;
  };

  std::int64_t limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  std::int64_t bytes_ = 0;    // of the blocks that are ready
  std::list<Entry> entries_;  // last used first
  std::unordered_map<Key, std::list<Entry>::iterator, Hash> by_key_;
};

}  // namespace hadal::io
