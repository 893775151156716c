#pragma once
// Memory of an arena: float32 values at a 64-byte boundary, zero at first unless said otherwise.

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
  explicit AlignedBuffer(std::int64_t count) : AlignedBuffer(for_overwrite(count)) {
    if (count > 0) std::memset(data_.get(), 0, bytes(count));
  }
  // With unspecified content.
  static AlignedBuffer for_overwrite(std::int64_t count) {
    AlignedBuffer buffer;
    buffer.count_ = static_cast<std::size_t>(count);
    if (count == 0) return buffer;
    buffer.data_.reset(static_cast<float*>(std::aligned_alloc(kAlignment, bytes(count))));
    if (!buffer.data_) throw std::bad_alloc();
    return buffer;
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
  static std::size_t bytes(std::int64_t count) {
    return (static_cast<std::size_t>(count) * sizeof(float) + kAlignment - 1) / kAlignment *
           kAlignment;
  }
  struct Free {
    void operator()(float* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t count_ = 0;
};

}  // namespace hadal::engine
