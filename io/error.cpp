#include "io/error.hpp"

#include <fmt/format.h>

#include <cstring>
#include <new>

namespace hadal::io {

std::string_view name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return "usage";
    case ErrorKind::data:
      return "data";
    case ErrorKind::checkpoint:
      return "checkpoint";
    case ErrorKind::launch:
      return "launch";
    case ErrorKind::bug:
      return "bug";
    case ErrorKind::numeric:
      return "numeric";
    case ErrorKind::storage:
      return "storage";
    case ErrorKind::peer:
      return "peer";
    case ErrorKind::config:
      return "config";
  }
  return "unknown";
}

std::string readable(std::string_view text) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    // Bytes of the character that begins here (RFC 3629, section 4); 0: none does.
    std::size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead > 0xf4 || length > text.size() - at) length = 0;
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[at + k]);
      const unsigned low = k > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
      const unsigned high = k > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
      if (next < low || next > high) length = 0;
    }
    const bool controls = lead < 0x20 || lead == 0x7f;
    if (length == 0 || (controls && lead != '\n' && lead != '\t')) {
      shown += fmt::format("\\x{:02x}", lead);
      ++at;
    } else {
      shown += text.substr(at, length);
      at += length;
    }
  }
  return shown;
}

Error system_error(ErrorKind kind, std::string_view what, const std::string& path,
                   int error_number) {
  return {kind, fmt::format("{} {}: {}", what, path, std::strerror(error_number))};
}

Error as_error(const std::exception& exception) {
  if (const auto* error = dynamic_cast<const Error*>(&exception)) return *error;
  if (dynamic_cast<const std::bad_alloc*>(&exception) != nullptr) {
    return {ErrorKind::launch,
            "out of memory; use fewer workers or ranks on a host, or a smaller train.micro_batch"};
  }
  return {ErrorKind::bug, fmt::format("unexpected failure: {}", exception.what())};
}

}  // namespace hadal::io
