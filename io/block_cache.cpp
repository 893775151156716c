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
  changed_.notify_all();
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
  changed_.notify_all();
}

void BlockCache::queue(std::function<void()> fill) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(fill));
  }
  changed_.notify_one();
}

void BlockCache::wait(const Block& block) {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return block.state_ != Block::State::claimed || !queue_.empty(); });
    if (block.state_ == Block::State::ready) return;
    if (block.state_ == Block::State::failed) std::rethrow_exception(block.failure_);
    const std::function<void()> fill = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    fill();
    lock.lock();
  }
}

}  // namespace hadal::io
