#pragma once
// Named tensors beside the parameters (batch-norm statistics, counters, tables), one after the
// other in one memory.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dtype.hpp"

namespace hadal::engine {

struct BufferSpec {
  std::string name;
  io::Shape shape;
  io::DType dtype = io::DType::f32;
  double value = 0;        // of every element at first (float32 and int64)
  bool persistent = true;  // part of the state dict
};

struct BufferValues {
  std::vector<std::byte> bytes;
  bool operator==(const BufferValues&) const = default;
};

class BufferLayout {
 public:
  // Returns the number of the buffer.
  std::size_t add(BufferSpec spec);

  const std::vector<BufferSpec>& specs() const { return specs_; }
  std::size_t size() const { return specs_.size(); }
  bool empty() const { return specs_.empty(); }

  // Every buffer at its first value.
  BufferValues initial() const;

  // Where the bytes of buffer `number` begin.
  std::size_t offset(std::size_t number) const { return offsets_[number]; }

  // The bytes of buffer `number`.
  std::span<std::byte> of(BufferValues& values, std::size_t number) const;
  std::span<const std::byte> of(const BufferValues& values, std::size_t number) const;

 private:
  std::vector<BufferSpec> specs_;
  std::vector<std::size_t> offsets_{0};  // in bytes, each at a multiple of 16, then the end
};

}  // namespace hadal::engine
