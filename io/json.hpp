#pragma once
// JSON text, parsed in one place: the library's parser costs seconds in every file that holds one.

#include <nlohmann/json.hpp>
#include <string_view>

namespace hadal::io {

// The document; is_discarded() where the text is not valid JSON, and then it is no object, no list
// and no value either.
nlohmann::json parse_json(std::string_view text);

}  // namespace hadal::io
