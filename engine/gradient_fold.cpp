#include "engine/gradient_fold.hpp"

namespace hadal::engine {

AlignedBuffer GradientPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      AlignedBuffer buffer = std::move(free_.back());
      free_.pop_back();
      return buffer;
    }
    ++allocated_;
  }
  return AlignedBuffer(elements_);
}

void GradientPool::give_back(AlignedBuffer buffer) {
  const std::lock_guard lock(mutex_);
  free_.push_back(std::move(buffer));
}

GradientFold::Add gradient_add(GradientPool& pool) {
  return [&pool](AlignedBuffer sum, AlignedBuffer addend) {
    kernels::add_into(sum.span(), addend.span());
    pool.give_back(std::move(addend));
    return sum;
  };
}

}  // namespace hadal::engine
