#pragma once
// Owner of one C handle. Traits give `Handle`, `null()` and `close(Handle)`. A moved-from owner is
// null; the destructor closes and ignores the result, so whoever must know calls release() and
// closes.

#include <utility>

namespace hadal::io {

template <class Traits>
class UniqueHandle {
 public:
  using Handle = typename Traits::Handle;

  UniqueHandle() noexcept = default;
  explicit UniqueHandle(Handle handle) noexcept : handle_(handle) {}
  UniqueHandle(UniqueHandle&& other) noexcept : handle_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = other.release();
    }
    return *this;
  }
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
  ~UniqueHandle() { reset(); }

  Handle get() const noexcept { return handle_; }
  explicit operator bool() const noexcept { return handle_ != Traits::null(); }
  Handle release() noexcept { return std::exchange(handle_, Traits::null()); }
  void reset() noexcept {
    if (handle_ != Traits::null()) Traits::close(release());
  }

 private:
  Handle handle_ = Traits::null();
};

}  // namespace hadal::io
