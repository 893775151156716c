#include "io/recycled_bytes.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>

namespace hadal::io {
namespace {

constexpr std::size_t kAlignment = 64;
// Below, the C library is fast enough.
constexpr std::size_t kLeast = std::size_t{64} << 10;
// That wait to be taken again.
constexpr std::size_t kMostKept = std::size_t{256} << 20;

struct Kept {
  std::mutex mutex;
  std::unordered_map<std::size_t, std::vector<void*>> by_size;
  std::size_t bytes = 0;
};

// Never destroyed: threads may give memory back until the very end.
Kept& kept() {
  static Kept& instance = *new Kept;
  return instance;
}

}  // namespace

void* take_bytes(std::size_t bytes) {
  if (bytes >= kLeast) {
    Kept& all = kept();
    const std::lock_guard lock(all.mutex);
    if (const auto found = all.by_size.find(bytes);
        found != all.by_size.end() && !found->second.empty()) {
      void* const memory = found->second.back();
      found->second.pop_back();
      all.bytes -= bytes;
      return memory;
    }
  }
  const std::size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* const memory = std::aligned_alloc(kAlignment, whole);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void give_bytes(void* memory, std::size_t bytes) noexcept {
  if (bytes >= kLeast) {
    Kept& all = kept();
    const std::lock_guard lock(all.mutex);
    if (all.bytes + bytes <= kMostKept) {
      try {
        all.by_size[bytes].push_back(memory);
        all.bytes += bytes;
        return;
      } catch (const std::bad_alloc&) {
        // Then it goes back to the system.
      }
    }
  }
  std::free(memory);
}

}  // namespace hadal::io
