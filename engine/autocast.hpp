#pragma once
// Lower precision for a region of operators, as torch.autocast gives it.

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <optional>

namespace hadal::engine {

// While it lives, the calling thread's operators run as under torch.autocast(device, dtype,
// cache_enabled=False), or as without autocast where there is no type. The library's cache of cast
// weights is one for all threads and would be emptied by one worker under another's forward pass,
// and where a weight is used twice that changes bits.
class Autocast {
 public:
  Autocast(c10::DeviceType device, std::optional<c10::ScalarType> dtype);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool enabled_;
  bool caches_;
  c10::ScalarType dtype_;
};

}  // namespace hadal::engine
