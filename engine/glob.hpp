#pragma once
// Patterns over parameter names.

#include <string>
#include <string_view>
#include <vector>

namespace hadal::engine {

// True where `name` matches the whole `pattern`: * is any run of characters (dots too), ? any one.
bool matches_glob(std::string_view pattern, std::string_view name);

bool matches_any(const std::vector<std::string>& patterns, std::string_view name);

}  // namespace hadal::engine
