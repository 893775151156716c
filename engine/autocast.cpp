#include "engine/autocast.hpp"

#include <ATen/autocast_mode.h>

namespace hadal::engine {

Autocast::Autocast(c10::DeviceType device, std::optional<c10::ScalarType> dtype)
    : device_(device),
      enabled_(at::autocast::is_autocast_enabled(device)),
      caches_(at::autocast::is_autocast_cache_enabled()),
      dtype_(at::autocast::get_autocast_dtype(device)) {
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_enabled(device, dtype.has_value());
  if (dtype) at::autocast::set_autocast_dtype(device, *dtype);
}

Autocast::~Autocast() {
  at::autocast::set_autocast_enabled(device_, enabled_);
  at::autocast::set_autocast_dtype(device_, dtype_);
  at::autocast::set_autocast_cache_enabled(caches_);
}

}  // namespace hadal::engine
