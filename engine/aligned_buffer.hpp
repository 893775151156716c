#pragma once
// Memory of an arena: float32 values at a 64-byte boundary, zero at first.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace hadal::engine {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::int64_t count) : count_(static_cast<std::size_t>(count)) {
    const std::size_t bytes = (count_ * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
    if (bytes == 0) return;
    data_.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, bytes);
  }

  std::span<float> span() { return {data_.get(), count_}; }
  std::span<const float> span() const { return {data_.get(), count_}; }
  std::span<float> subspan(std::int64_t begin, std::int64_t end) {
    return span().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  }
  float* data() { return data_.get(); }
  bool empty() const { return count_ == 0; }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(float* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t count_ = 0;
};

}  // namespace hadal::engine
