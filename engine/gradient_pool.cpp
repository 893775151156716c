#include "engine/gradient_pool.hpp"

#include <algorithm>
#include <atomic>

#include "io/error.hpp"

namespace hadal::engine {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t stride(std::int64_t elements) {
  const std::size_t bytes = static_cast<std::size_t>(elements) * sizeof(float);
  return (bytes + kPage - 1) / kPage * kPage;
}

}  // namespace

// At the start of a rank's part.
struct GradientPool::Table {
  static constexpr std::size_t kMost = 128;
  std::atomic<std::uint64_t> announced;
  bool abandoned;
  std::size_t count;
  Placed nodes[kMost];
};

GradientBuffer::~GradientBuffer() {
  if (pool_ != nullptr) pool_->give_back(slot_);
}

std::span<float> GradientBuffer::span() const {
  return {pool_->values(pool_->host_.rank(), slot_), static_cast<std::size_t>(pool_->elements_)};
}

int GradientPool::buffers_for(Share share, int workers) {
  std::size_t waiting = 0;
  for (std::int64_t end = share.begin; end < share.end; ++end) {
    waiting = std::max(waiting, kernels::covering_nodes(share.begin, end).size());
  }
  const std::int64_t wanted = std::min(share.count(), workers + static_cast<std::int64_t>(waiting));
  return static_cast<int>(std::clamp<std::int64_t>(wanted, 1, Table::kMost));
}

std::size_t GradientPool::bytes(std::int64_t elements, int buffers) {
  static_assert(sizeof(Table) <= kPage);
  return kPage + static_cast<std::size_t>(buffers) * stride(elements);
}

GradientPool::GradientPool(HostMemory& host, std::int64_t elements, int buffers)
    : host_(host), elements_(elements) {
  for (int slot = buffers; slot-- > 0;) free_.push_back(slot);
}

void GradientPool::begin_step() {
  const std::lock_guard lock(mutex_);
  next_turn_ = 0;
  abandoned_ = false;
}

GradientBuffer GradientPool::take(std::int64_t turn) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return abandoned_ || (turn == next_turn_ && !free_.empty()); });
  if (abandoned_) throw io::Error(io::ErrorKind::bug, "another micro-batch of the step has failed");
  ++next_turn_;
  const int slot = free_.back();
  free_.pop_back();
  lock.unlock();
  freed_.notify_all();
  return {*this, slot};
}

void GradientPool::abandon_step() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  freed_.notify_all();
}

GradientBuffer GradientPool::take_idle() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) throw io::Error(io::ErrorKind::bug, "all gradient buffers are in use");
  const int slot = free_.back();
  free_.pop_back();
  return {*this, slot};
}

void GradientPool::give_back(int slot) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
  }
  freed_.notify_all();
}

void GradientPool::publish(std::span<const Placed> nodes) {
  Table& mine = table(host_.rank());
  mine.abandoned = false;
  mine.count = nodes.size();
  std::copy(nodes.begin(), nodes.end(), mine.nodes);
}

void GradientPool::publish_abandoned() { table(host_.rank()).abandoned = true; }

std::optional<std::vector<GradientSource>> GradientPool::published() const {
  std::vector<GradientSource> sources;
  for (int rank = 0; rank < host_.size(); ++rank) {
    const Table& theirs = table(rank);
    if (theirs.abandoned) return std::nullopt;
    for (std::size_t i = 0; i < theirs.count; ++i) {
      sources.push_back({theirs.nodes[i].node, values(rank, theirs.nodes[i].slot)});
    }
  }
  return sources;
}

void GradientPool::announce() {
  table(host_.rank()).announced.store(++announced_, std::memory_order_release);
}

bool GradientPool::all_announced() const {
  for (int rank = 0; rank < host_.size(); ++rank) {
    if (table(rank).announced.load(std::memory_order_acquire) < announced_) return false;
  }
  return true;
}

GradientPool::Table& GradientPool::table(int rank) const {
  return *reinterpret_cast<Table*>(host_.part(rank).data());
}

float* GradientPool::values(int rank, int slot) const {
  std::byte* const first = host_.part(rank).data() + kPage;
  return reinterpret_cast<float*>(first + static_cast<std::size_t>(slot) * stride(elements_));
}

}  // namespace hadal::engine
