#include "engine/gradient_pool.hpp"

#include <algorithm>
#include <bit>

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
  struct Entry {
    kernels::TreeNode node;
    int slot;
  };
  std::size_t count;
  Entry entries[kMost];
};

GradientBuffer::~GradientBuffer() {
  if (pool_ != nullptr) pool_->give_back(slot_);
}

std::span<float> GradientBuffer::span() const {
  return {pool_->values(pool_->host_.rank(), slot_), static_cast<std::size_t>(pool_->elements_)};
}

int GradientPool::buffers_for(std::int64_t share, int workers) {
  const auto levels = std::bit_width(static_cast<std::uint64_t>(std::max<std::int64_t>(share, 1)));
  const std::int64_t wanted = std::min<std::int64_t>(share, workers + levels);
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

GradientBuffer GradientPool::take() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [this] { return !free_.empty(); });
  const int slot = free_.back();
  free_.pop_back();
  return {*this, slot};
}

void GradientPool::give_back(int slot) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
  }
  freed_.notify_one();
}

void GradientPool::publish(const GradientNodes& nodes) {
  Table& mine = table(host_.rank());
  mine.count = 0;
  for (const auto& [node, buffer] : nodes) mine.entries[mine.count++] = {node, buffer.slot()};
}

std::vector<GradientSource> GradientPool::published() const {
  std::vector<GradientSource> sources;
  for (int rank = 0; rank < host_.size(); ++rank) {
    const Table& theirs = table(rank);
    for (std::size_t i = 0; i < theirs.count; ++i) {
      sources.push_back({theirs.entries[i].node, values(rank, theirs.entries[i].slot)});
    }
  }
  return sources;
}

GradientPool::Table& GradientPool::table(int rank) const {
  return *reinterpret_cast<Table*>(host_.part(rank).data());
}

float* GradientPool::values(int rank, int slot) const {
  std::byte* const first = host_.part(rank).data() + kPage;
  return reinterpret_cast<float*>(first + static_cast<std::size_t>(slot) * stride(elements_));
}

}  // namespace hadal::engine
