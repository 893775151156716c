#include "io/block_cache.hpp"

#include <utility>

namespace hadal::io {

BlockCache::Found BlockCache::find_or_claim(const Key& key) {
  const std::lock_guard lock(mutex_);
  if (const auto hit = by_key_.find(key); hit != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, hit->second);
    return {hit->second->block, false};
  }
  entries_.push_front({key, std::make_shared<Block>()});
  by_key_.emplace(key, entries_.begin());
  return {entries_.front().block, true};
}

void BlockCache::publish(const Key& key) {
  {
    const std::lock_guard lock(mutex_);
    Block& block = *by_key_.at(key)->block;
    block.state_ = Block::State::ready;
    bytes_ += std::ssize(block.bytes_);
    for (auto entry = entries_.end(); bytes_ > limit_ && entry != entries_.begin();) {
      --entry;
      const bool held = entry->block.use_count() > 1;
      if (held || entry->block->state_ != Block::State::ready) continue;
      bytes_ -= std::ssize(entry->block->bytes_);
      by_key_.erase(entry->key);
      entry = entries_.erase(entry);
    }
  }
  settled_.notify_all();
}

void BlockCache::fail(const Key& key, std::exception_ptr failure) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_key_.find(key);
    found->second->block->state_ = Block::State::failed;
    found->second->block->failure_ = std::move(failure);
    entries_.erase(found->second);
    by_key_.erase(found);
  }
  settled_.notify_all();
}

void BlockCache::wait(const Block& block) {
  std::unique_lock lock(mutex_);
  settled_.wait(lock, [&] { return block.state_ != Block::State::claimed; });
  if (block.state_ == Block::State::failed) std::rethrow_exception(block.failure_);
}

}  // namespace hadal::io
