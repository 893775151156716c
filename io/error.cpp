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
