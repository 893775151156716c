#pragma once
// Memory of batches and blocks: of the same sizes again and again, so that what is given back
// serves the next one. Neither zeroed nor returned to the system, which would cost as much as
// reading it from the system's cache does.

#include <cstddef>
#include <vector>

namespace hadal::io {

// At a 64-byte boundary; any thread.
void* take_bytes(std::size_t bytes);
void give_bytes(void* memory, std::size_t bytes) noexcept;

template <class Value>
struct RecyclingAllocator {
  using value_type = Value;
  RecyclingAllocator() = default;
  template <class Other>
  RecyclingAllocator(const RecyclingAllocator<Other>&) {}
  Value* allocate(std::size_t count) {
    return static_cast<Value*>(take_bytes(count * sizeof(Value)));
  }
  void deallocate(Value* memory, std::size_t count) noexcept {
    give_bytes(memory, count * sizeof(Value));
  }
  // Elements that are not given a value have an unspecified one.
  void construct(Value*) noexcept {}
  template <class Argument>
  void construct(Value* at, Argument value) noexcept {
    *at = value;
  }
  bool operator==(const RecyclingAllocator&) const { return true; }
};

using RecycledBytes = std::vector<std::byte, RecyclingAllocator<std::byte>>;

}  // namespace hadal::io
