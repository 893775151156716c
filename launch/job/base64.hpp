#pragma once
// Any bytes as a word that no gateway cuts or quotes (RFC 4648, section 4).

#include <string>
#include <string_view>

namespace hadal::launch {

std::string base64(std::string_view bytes);

}  // namespace hadal::launch
