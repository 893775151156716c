#pragma once
// JSON text, parsed in one place: the library's parser costs seconds in every file that holds one.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace hadal::io {

// The document; is_discarded() where the text is not valid JSON, and then it is no object, no list
// and no value either.
nlohmann::json parse_json(std::string_view text);

// The text of a document; bytes of its strings that are no UTF-8 become U+FFFD.
template <class Json>
std::string json_text(const Json& document, int indent = -1) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace hadal::io
