#include "engine/autocast.hpp"

#include <ATen/autocast_mode.h>

namespace hadal::engine {

Autocast::Autocast(std::optional<c10::ScalarType> dtype)
    : enabled_(at::autocast::is_autocast_enabled(at::kCPU)),
      caches_(at::autocast::is_autocast_cache_enabled()),
      dtype_(at::autocast::get_autocast_dtype(at::kCPU)) {
  at::autocast::set_autocast_cache_enabled(false);
  at::autocast::set_autocast_enabled(at::kCPU, dtype.has_value());
  if (dtype) at::autocast::set_autocast_dtype(at::kCPU, *dtype);
}

Autocast::~Autocast() {
  at::autocast::set_autocast_enabled(at::kCPU, enabled_);
  at::autocast::set_autocast_dtype(at::kCPU, dtype_);
  at::autocast::set_autocast_cache_enabled(caches_);
}

}  // namespace hadal::engine
