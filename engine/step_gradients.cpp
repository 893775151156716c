#include "engine/step_gradients.hpp"

#include <algorithm>
#include <numeric>

namespace hadal::engine {

StepGradients::StepGradients(GradientPool& pool, const ArenaLayout& layout, const Leaves& leaves,
                             Share share, const PartRounding* rounding)
    : pool_(pool),
      layout_(layout),
      leaves_(leaves),
      share_(share),
      present_(leaves.present(share.begin, share.end)),
      missing_(layout.bucket_count()),
      finished_at_(layout.bucket_count()),
      fold_(
          leaves, share,
          [](GradientBuffer a, GradientBuffer b) {
            kernels::add_into(a.span(), b.span());
            return a;
          },
          [rounding](kernels::TreeNode node, GradientBuffer& buffer) {
            if (rounding == nullptr || !rounding->is_part(node)) return;
            rounding->round(node, 0, buffer.span(), buffer.span());
          }) {
  for (const ArenaEntry& entry : layout.entries()) {
    if (entry.count == 0) continue;
    for (std::size_t b = entry.first_bucket; b <= entry.last_bucket; ++b) missing_[b] += present_;
  }
  pool_.begin_step();
}

std::span<float> StepGradients::begin(std::int64_t leaf) {
  GradientBuffer buffer = pool_.take(leaves_.present(share_.begin, leaf));
  const std::span<float> values = buffer.span();
  const std::lock_guard lock(mutex_);
  in_work_.emplace(leaf, std::move(buffer));
  ++begun_;
  return values;
}

void StepGradients::arrived(std::size_t entry) {
  const ArenaEntry& its = layout_.entries()[entry];
  if (its.count == 0) return;
  for (std::size_t b = its.first_bucket; b <= its.last_bucket; ++b) {
    if (missing_[b].fetch_sub(1, std::memory_order_acq_rel) == 1) finished_at_[b] = finished_++;
  }
}

void StepGradients::end(std::int64_t leaf) {
  std::unique_lock lock(mutex_);
  GradientBuffer buffer = std::move(in_work_.extract(leaf).mapped());
  // While others wait for a buffer, sums give one back. Later the reduction adds up what is left.
  const bool adds = begun_ < present_;
  if (!adds) {
    fold_.arrive(leaf, std::move(buffer), false);
    return;
  }
  ++adding_;
  lock.unlock();
  fold_.arrive(leaf, std::move(buffer));
  lock.lock();
  --adding_;
}

void StepGradients::abandon() {
  abandoned_ = true;
  pool_.abandon_step();
}

bool StepGradients::complete(std::size_t bucket) {
  if (abandoned_) return true;
  if (missing_[bucket].load(std::memory_order_acquire) > 0) return false;
  const std::lock_guard lock(mutex_);
  return begun_ == present_ && adding_ == 0;
}

void StepGradients::publish() {
  if (abandoned_) {
    pool_.publish_abandoned();
    return;
  }
  const std::lock_guard lock(mutex_);
  std::vector<GradientPool::Placed> nodes;
  for (const auto& [node, buffer] : fold_.nodes()) nodes.push_back({node, buffer.slot()});
  for (const auto& [leaf, buffer] : in_work_) nodes.push_back({{0, leaf}, buffer.slot()});
  pool_.publish(nodes);
}

std::span<float> StepGradients::result() {
  const std::lock_guard lock(mutex_);
  if (!fold_.nodes().empty()) return fold_.nodes().begin()->second.span();
  if (!in_work_.empty()) return in_work_.begin()->second.span();
  spare_ = pool_.take_idle();
  return spare_.span();
}

std::vector<std::size_t> StepGradients::observed_order() const {
  std::vector<std::size_t> order(finished_at_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return finished_at_[a] < finished_at_[b]; });
  return order;
}

}  // namespace hadal::engine
